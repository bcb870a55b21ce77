"""Presets on tiny models in a real ComfyUI: what a row says runs, through the rules that the one dial makes of it."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from tiny import CASES, plain
from tiny.case import parts, sample

from attention import presets

PLAIN = plain()
STEPS = 20
VARIANTS = ("FastH3", "MiniMax-H3", "LTX-2.3", "LTX-2.5", "Wan 2.2 TI2V 5B", "Wan-Animate-2", "HunyuanVideo 1.5")
SHAPED = [(row.level, name) for row in presets.TABLE if row.pattern for name in row.models if name in PLAIN]


@pytest.fixture(scope="module")
def built(pack):
    return functools.cache(lambda name: PLAIN[name].build())


def applied(pack, model, row, **more):
    """The MODEL with a row's rules, whatever is the fastest on a few tokens. more: fields of the pattern's Shape."""
    runs, host = pack.nodes.runs.preset_rules, pack.nodes.host.model_rules
    made = runs.install_preset(model, row, runs.Asked())[1].rules
    shapes = [rule.shape and replace(rule.shape, if_faster=False, **more) for rule in made]
    rules = [replace(rule, shape=shape, choice="table order") for rule, shape in zip(made, shapes, strict=True)]
    return host.add_rules(model, rules)


@pytest.mark.parametrize(("level", "name"), SHAPED)
def test_a_preset_shapes_its_steps_and_blocks_and_no_other(level, name, pack, built, inference):
    case, row = PLAIN[name], pack.attention.presets.find(name, level)
    choice = row.pattern
    out = sample(applied(pack, built(name), row, min_tokens=0), case, steps=STEPS)
    report = pack.nodes.host.run_history.find(out)
    assert all(part.isfinite().all() for part in parts(out))
    by_step = [{used for role, used in step.calls if role == "self"} for step in report.timeline]
    shaped = [{used.partition(" (")[0] for used in step if used.startswith("top blocks")} for step in by_step]
    first = next(number for number, step in enumerate(shaped) if step)
    last = max(number for number, step in enumerate(shaped) if step)
    # The steps of `simple` are even in the schedule.
    assert abs(first / STEPS - choice.start) <= 1 / STEPS and abs((last + 1) / STEPS - choice.end) <= 1 / STEPS
    ran = list(dict.fromkeys(used for step in shaped for used in step))
    percents = [f" {percent:g} %" for percent in choice.percentages] if choice.ramp else [""]
    assert ran == [f"top blocks{percent}" for percent in percents]
    rows = [used for used in report.rows if used.used.startswith("top blocks")]
    assert rows and all(used.role == "self" for used in rows)
    assert min(block for used in rows for block in used.blocks) == choice.dense_first_blocks


def test_short_clips_stay_dense(pack, built, inference):
    """As it comes, the row leaves so few tokens alone, and the report says so."""
    row = pack.attention.presets.find("Wan", presets.FAST)
    report = pack.nodes.host.run_history.find(sample(applied(pack, built("Wan"), row), PLAIN["Wan"], steps=STEPS))
    assert not any("top blocks" in used.used for used in report.rows)
    assert any("fewer than min_tokens" in reason for _, _, reason in report.fallbacks)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_loaded_model_finds_its_row(variant, pack, inference):
    """By the name that its family has for it, and where a row is for that family alone, by the family's."""
    model = next(case for case in CASES if case.variant == variant).build()
    family, network = pack.nodes.host.model_family.family_of(model), model.model.diffusion_model
    for level in presets.LEVELS:
        row = pack.attention.presets.find_for(family, network, level)
        assert family.name_of(network) in row.models
        assert row.pattern is None or variant not in ("FastH3", "Wan-Animate-2")
