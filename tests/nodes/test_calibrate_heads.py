"""A number of blocks for each head group, by what each needs: chosen from measured errors, in a plan, applied."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from calibrating import UNITS, Interrupted, start, untimed
from hypothesis import given
from hypothesis import strategies as st
from video_calls import first_runner, place_of

from attention.core.geometry import describe
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.patterns import MassBlocks, Spatial, TopBlocks
from attention.patterns.blocks import block_order
from attention.plans import head_groups
from attention.plans.probe import split_error

GRID = (4, 16, 16)
HALF, QUARTER = TopBlocks(50.0), TopBlocks(25.0)


@pytest.mark.parametrize(
    ("number", "groups"), [(1, 1), (2, 2), (12, 6), (24, 8), (32, 8), (30, 6), (40, 8), (13, 1), (14, 7)]
)
def test_groups_have_equal_numbers_of_heads(number, groups):
    assert head_groups.count(number) == groups


def test_what_is_measured_for_each_group():
    found = head_groups.levels([HALF, QUARTER, Spatial(), MassBlocks(), None, TopBlocks(50.0, by_heads=(50.0, 5.0))])
    assert found[:2] == (HALF, TopBlocks(5.0)) and QUARTER in found and len(found) == len(head_groups.LEVELS) + 1
    assert len(head_groups.levels([HALF, TopBlocks(50.0, tail=True)])) == 2 * len(head_groups.LEVELS)


def one_needs_all(dim=16) -> tuple:
    """q, k, v of four heads: the first looks at all tokens alike, the others at their own block of keys."""
    torch.manual_seed(0)
    tokens = GRID[0] * GRID[1] * GRID[2]
    block = torch.eye(dim).repeat_interleave(tokens // dim, dim=0)[block_order(HALF, GRID)[1]]
    v = torch.randn(1, 4, tokens, dim) + 3 * block @ torch.randn(dim, dim)
    q = block.expand(1, 4, -1, -1) * torch.tensor([0.0, 9.0, 9.0, 9.0]).view(1, 4, 1, 1)
    return q, block.expand(1, 4, -1, -1) * 9.0, v


def test_a_head_that_needs_all_blocks_gets_them_and_the_others_few():
    q, k, v = one_needs_all()
    truth = scaled_dot_product_attention(q, k, v)

    def run(pattern):
        return first_runner(pattern, place_of(GRID), describe(q, k, v, None), engine="blocks")(q, k, v)

    measured = [{one: split_error(lambda one=one: run(one), truth, 4) for one in head_groups.levels([HALF])}]
    found = head_groups.assign(HALF, measured)
    assert found.by_heads[0] >= 80.0 and found.by_heads[1:] == (5.0, 5.0, 5.0) and found.keep == max(found.by_heads)
    assert relative_l2(run(found), truth) < relative_l2(run(HALF), truth)
    # The parts are those of the whole.
    assert sum(measured[0][HALF]) == pytest.approx(relative_l2(run(HALF), truth) ** 2, rel=1e-4)


ERRORS = st.lists(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), min_size=11, max_size=11)


@given(st.lists(ERRORS, min_size=1, max_size=2))
def test_no_more_error_than_one_number_and_fewer_blocks(tables):
    """Whatever was measured."""
    measured = [dict(zip(head_groups.levels([QUARTER]), table, strict=True)) for table in tables]
    found = head_groups.assign(QUARTER, measured)
    if found is None:
        return
    assert sum(found.by_heads) / 4 < head_groups.SAVES * 25.0
    ours = sum(
        call[replace(QUARTER, keep=number)][group]
        for call in measured
        for group, number in enumerate(found.by_heads)
        if number < 100.0
    )
    assert ours <= sum(sum(call[QUARTER]) for call in measured) * (1 + 1e-9)


def test_nothing_to_gain_or_nothing_known_makes_none():
    alike = {one: (1.0 / one.keep,) * 2 for one in head_groups.levels([HALF])}
    assert head_groups.assign(HALF, [alike]) is None
    assert head_groups.assign(HALF, []) is None and head_groups.assign(QUARTER, [alike]) is None
    assert head_groups.assign(HALF, [dict.fromkeys(alike, (0.0, 0.0))]) is None
    assert head_groups.best([Spatial(), None], [alike]) is None
    # An error that was not measured in every call counts for nothing.
    uneven = {one: (0.0, 1.0 / one.keep**2) for one in alike}
    assert head_groups.assign(HALF, [uneven]).by_heads[0] == 5.0
    assert head_groups.assign(HALF, [uneven, {HALF: (0.0, 0.0004)}]) is None


# --- on the tiny model ------------------------------------------------------------------------------------------------

SECONDS = {"host": 1.0, "top blocks (keep 50)": 0.5, "top blocks (keep 25)": 0.25}


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    """Top blocks are offered; values of the second of two heads are zero, so that few blocks do for it."""
    bench = start(lab, monkeypatch, tmp_path)
    bench.offer(bench.patterns.TopBlocks(50.0), bench.patterns.TopBlocks(25.0))
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: SECONDS.get(name, 0.1) for name in runs})
    for block in lab.model.model.diffusion_model.transformer_blocks:
        for part in (block.attn1.to_v.weight, block.attn1.to_v.bias):
            changed = part.data.clone()
            changed[changed.shape[0] // 2 :] = 0.0
            bench.set(part, "data", changed)
    bench.latent = torch.zeros(1, 128, *GRID)
    return bench


def test_unequal_heads_get_unequal_numbers_and_the_plan_is_kept(bench, lab):
    found = bench.calibrate(latent=bench.latent, custom_budget=10.0)
    plan = found["plan"]
    assert len(plan.steps) == UNITS
    (known,) = (known for _, _, known in bench.plans._MEASURED)
    uniform, more = (next(v for k, v in known.items() if k[0] == of) for of in ("trials", "more trials"))
    for step in plan.steps:
        many, few = step.candidate.pattern.by_heads
        assert few == 5.0 < many and (many + few) / 2 < head_groups.SAVES * 50.0
        assert step.error > 0 and step.seconds == pytest.approx(0.1 * step.exact_seconds)
    places = [place for place in more if more[place]]
    assert len(places) == UNITS
    for place in places:
        (made,) = (trial for name, trial in more[place].items() if name != "host")
        assert 0 < made.error <= uniform[place]["top blocks (keep 25)"].error
    assert "by_heads" in found["info"]
    # Saved, loaded, applied.
    bench.plan.VideoAttentionSavePlan.execute(plan, "heads")
    model, loaded, _ = bench.plan.VideoAttentionLoadPlan.execute(lab.model, "heads.json").args
    assert loaded == plan and lab.pack.nodes.host.model_rules.rules_of(model) == plan.rules()
    assert lab.counted(model)["self", "top blocks (blocks)"] == 8


def test_the_uniform_ones_stay_beside_it(bench):
    """By its measured error and time alone it is chosen or not."""
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: SECONDS.get(name, 0.45) for name in runs})
    plan = bench.calibrate(latent=bench.latent, custom_budget=10.0)["plan"]
    assert {step.candidate.name for step in plan.steps} == {"top blocks (keep 25)"}


def test_it_costs_one_sampling_to_try_and_one_for_each_part(bench):
    bench.set(bench.lab.pack.attention.plans.over_time, "pair_of", lambda *args: None)
    # Slower than the others, but nearer.
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: SECONDS.get(name, 0.6) for name in runs})
    bench.calibrate(latent=bench.latent, custom_budget=0.0)
    with_groups = len(bench.samplings)
    # Exact, two that probe; in each unit both uniform ones and the one by head groups.
    assert with_groups == 3 + UNITS * 3
    bench.set(bench.calibration.head_groups, "best", lambda *args: None)
    bench.calibrate(latent=bench.latent, custom_budget=0.0, seed=2)
    assert len(bench.samplings) - with_groups == 2 + UNITS * 2


def test_other_parts_of_the_model_have_their_own(bench):
    """Measured before in the same blocks, with other numbers."""
    bench.calibrate(latent=bench.latent, custom_budget=10.0)
    plan = bench.calibrate(latent=bench.latent, custom_budget=10.0, block_groups=1)["plan"]
    assert len(plan.steps) == 2 and all(
        step.blocks == (0, 1) and step.candidate.pattern.by_heads for step in plan.steps
    )


@pytest.mark.parametrize("after", [2, 3])
def test_an_interrupt_keeps_what_was_measured(bench, after):
    whole = bench.calibrate(latent=bench.latent, custom_budget=10.0)["plan"]
    total = len(bench.samplings)
    bench.plans._MEASURED.clear()
    bench.samplings.clear()
    bench.stop_after = after
    with pytest.raises(Interrupted):
        bench.calibrate(latent=bench.latent, custom_budget=10.0)
    bench.stop_after = 1000
    assert untimed(bench.calibrate(latent=bench.latent, custom_budget=10.0)["plan"]) == untimed(whole)
    assert len(bench.samplings) == total


def test_what_is_run_whole_is_in_the_middle_of_what_is_not_exact(pack):
    calibration, calibrate = pack.nodes.runs.calibration, pack.attention.plans.calibrate
    nearness = (0.0, 1e-5, 1e-4, 5e-3, 0.02, 0.1)
    options = [calibrate.PlanOption(f"{at}", 6.0 - at, 0.0, near) for at, near in enumerate(nearness)]
    assert [one.name for one in calibration._to_run(options, calibration.EACH)] == ["1", "2", "3", "4", "5"]
    assert [one.name for one in calibration._to_run(options, calibration.ONE)] == ["4"]
    assert [one.name for one in calibration._to_run(options[:3], calibration.ONE)] == ["2"], "all but exact"
    assert calibration._to_run(options[:1], calibration.ONE) == []
