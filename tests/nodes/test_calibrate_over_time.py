"""Ramps and kept choices of blocks as candidates: what they cost to try, where they win, that a plan holds them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from calibrating import Interrupted, start, untimed

STEPS = 8
# Of the noise levels at which its steps begin.
MIDDLE = 0.93
# 1024 tokens, 16 blocks of keys.
LATENT = torch.zeros(1, 128, 4, 16, 16)
HOW = {"latent": LATENT, "steps": STEPS, "block_groups": 1, "step_ranges": 1, "custom_budget": 10.0}
SECONDS = {"host": 1.0, "top blocks (keep 60)": 0.6, "top blocks (keep 20)": 0.2}
FALLING, RISING = "top blocks (keep 60 to 20 {})", "top blocks (keep 20 to 60 {})"


def gate(bench, lab, counts) -> None:
    """Makes a model whose self-attention counts more in some steps than in others.

    counts: sigma, 1 to 0 -> how much.
    """
    net, now = lab.model.model.diffusion_model, [1.0]
    handles = [net.register_forward_pre_hook(lambda module, args: now.__setitem__(0, float(args[1].max())))]
    for block in net.transformer_blocks:
        handles.append(block.attn1.register_forward_hook(lambda module, args, out: out * counts(now[0])))
    bench.undo += handles


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    bench = start(lab, monkeypatch, tmp_path)
    bench.undo = []
    bench.offer(bench.patterns.TopBlocks(60.0), bench.patterns.TopBlocks(20.0))
    bench.set(bench.calibration.head_groups, "best", lambda *given: None)
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: SECONDS.get(name, 0.1) for name in runs})
    yield bench
    for handle in bench.undo:
        handle.remove()


def options_of(bench, **how) -> dict:
    """{name: option} of the first part, as the page has them, and what Calibrate gives."""
    node, (positive, negative) = bench.plan.VideoAttentionCalibrate, bench.lab.prompt
    from calibrating import HOW as USUAL

    values = {**USUAL, **HOW, **how}
    samples = {"samples": values.pop("latent")}
    found = node.execute(bench.lab.model, positive, negative, samples, **values)
    parts = [part for part in found.ui["plan"][0]["parts"] if part["role"] == "self"]
    return [{option["name"]: option for option in part["options"]} for part in parts], found


def below_line(options: dict, name: str) -> bool:
    """Whether a ramp errs less than its ends put together to take as long, told from the page's figures anew."""
    near, far, ramp = (options[key] for key in ("top blocks (keep 60)", "top blocks (keep 20)", name))
    share = (near["seconds"] - ramp["seconds"]) / (near["seconds"] - far["seconds"])
    return ramp["error"] ** 2 < (1 - share) * near["error"] ** 2 + share * far["error"] ** 2


@pytest.mark.parametrize("early", [True, False])
def test_a_ramp_wins_where_some_steps_count_more(bench, lab, early):
    """Where early steps alone count the falling one does, where late ones do the rising one."""
    gate(bench, lab, lambda sigma: 1.0 if (sigma > MIDDLE) == early else 0.005)
    (options,), found = options_of(bench)
    good, bad = (FALLING, RISING) if early else (RISING, FALLING)
    assert below_line(options, good.format("linear"))
    assert bad.format("linear") not in options or not below_line(options, bad.format("linear"))
    # Where it wins its shapes are tried too.
    assert {good.format(shape) for shape in ("linear", "cosine", "steps")} <= set(options)
    ramp = options[good.format("linear")]
    assert options["top blocks (keep 20)"]["seconds"] < ramp["seconds"] < options["top blocks (keep 60)"]["seconds"]
    assert ramp["local"] is None and ramp["effect"] is None
    # A budget for which one density is too coarse, and the other needless.
    best = min((o for name, o in options.items() if " to " in name), key=lambda o: o["error"])
    assert best["error"] < options["top blocks (keep 20)"]["error"]
    predict = lab.pack.attention.plans.spread.predict_quantile
    (options,), found = options_of(bench, custom_budget=1.001 * predict([best["error"]]))
    plan = found.args[1]
    (step,) = plan.steps
    assert step.candidate.ramp is not None and step.candidate.name.startswith(good[:24])
    planned, exact = (lab.sample(model, seed=1, steps=STEPS, latent=LATENT) for model in (found.args[0], lab.model))
    assert lab.error(planned, exact) == pytest.approx(plan.realised, rel=1e-3)
    assert lab.error(planned, exact) == pytest.approx(step.error, rel=1e-3) and step.error <= plan.budget


def test_no_ramp_where_its_ends_are_no_choice(bench):
    """Windows have no percentage; one density has no other end; one step has no way."""
    bench.offer(bench.patterns.Temporal(), bench.patterns.TopBlocks(60.0))
    options, _ = options_of(bench)
    assert not any(" to " in name for part in options for name in part)
    bench.offer(bench.patterns.TopBlocks(60.0), bench.patterns.TopBlocks(20.0))
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: SECONDS.get(name, 0.1) for name in runs})
    options, _ = options_of(bench, step_ranges=STEPS)
    assert len(options) == STEPS and not any(" to " in name for part in options for name in part)
    # Hardly slower: nothing to gain between them.
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {
        name: 1.0 if name == "host" else 0.5 - 0.01 * ("20" in name) for name in runs})  # fmt: skip
    options, _ = options_of(bench, seed=2)
    assert not any(" to " in name for part in options for name in part)


def test_what_it_costs(bench, lab):
    """One sampling in each part where one is asked for; two to four where each choice is."""
    calibrate = lambda **how: (bench.samplings.clear(), bench.calibrate(**{**HOW, "custom_budget": 0.0, **how}))  # noqa: E731
    calibrate(step_ranges=2, end_error="one choice for each part")
    # Exact, one that probes, one in each part; a ramp in each.
    assert len(bench.samplings) == 2 + 2 + 2
    gate(bench, lab, lambda sigma: 1.0 if sigma > MIDDLE else 0.005)
    calibrate(seed=2)
    assert len(bench.samplings) == 2 + 2 + 3, "the likelier way wins: its three shapes"
    for handle in bench.undo:
        handle.remove()
    gate(bench, lab, lambda sigma: 1.0 if sigma < MIDDLE else 0.005)
    calibrate(seed=3)
    assert len(bench.samplings) == 2 + 2 + 4, "the other way wins: one that loses, and three"


def test_the_likelier_way_is_told_by_the_other_ranges(bench, lab):
    """Late steps count more: in each of two ranges the rising one is the first that is tried."""
    gate(bench, lab, lambda sigma: 1.0 if sigma < MIDDLE else 0.005)
    options, _ = options_of(bench, step_ranges=2, end_error="one choice for each part")
    assert [[name for name in part if " to " in name] for part in options] == [[RISING.format("linear")]] * 2


@pytest.mark.parametrize("after", [4, 6])
def test_an_interrupt_keeps_the_ramps(bench, after):
    whole = bench.calibrate(**HOW)["plan"]
    total = len(bench.samplings)
    bench.plans._MEASURED.clear()
    bench.samplings.clear()
    bench.stop_after = after
    with pytest.raises(Interrupted):
        bench.calibrate(**HOW)
    bench.stop_after = 1000
    assert untimed(bench.calibrate(**HOW)["plan"]) == untimed(whole) and len(bench.samplings) == total


# --- choices of blocks that are kept ----------------------------------------------------------------------------------


@pytest.fixture
def keeping(bench):
    """Choosing takes half of a call's time."""
    top = bench.patterns.TopBlocks(60.0)
    bench.offer(
        top, bench.candidate(pattern=replace(top, refresh=4)), bench.candidate(pattern=top, refresh_overlap=0.9)
    )
    seconds = {"host": 1.0, "top blocks (keep 60)": 0.6}
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: seconds.get(name, 0.3) for name in runs})
    return bench


REFRESH, OVERLAP = "top blocks (keep 60, refresh 4)", "top blocks (keep 60, refresh_overlap 0.9)"


def count_choices(bench, lab, model) -> int:
    """How often blocks are really chosen in one sampling, in all blocks."""
    gather, count = lab.pack.attention.sparse.gather_blocks, []
    select = gather.select_blocks
    bench.set(gather, "select_blocks", lambda *given, **more: (count.append(None), select(*given, **more))[1])
    lab.sample(model, seed=1, steps=STEPS, latent=LATENT)
    bench.set(gather, "select_blocks", select)
    return len(count)


def test_a_kept_choice_costs_less(keeping, lab):
    (options,), found = options_of(keeping)
    (step,) = found.args[1].steps
    assert step.candidate.name in (REFRESH, OVERLAP) and step.local is None and step.effect is None
    kept, plain = options[REFRESH], options["top blocks (keep 60)"]
    # Chosen in two of eight steps, which take 0.6; 0.3 else.
    assert kept["seconds"] == pytest.approx((2 * 0.6 + 6 * 0.3) / 8 / 0.6 * plain["seconds"]) and kept["error"] > 0
    rules = lab.pack.nodes.host.model_rules
    candidates = [keeping.candidate(pattern=keeping.patterns.TopBlocks(60.0, refresh=each)) for each in (1, 4)]
    made = [rules.add_rules(lab.model, [one.rule("self", (), 0.0, 1.0)]) for one in candidates]
    assert [count_choices(keeping, lab, model) for model in made] == [2 * STEPS, 2 * 2]
    if OVERLAP in options:
        share = (options[OVERLAP]["seconds"] / plain["seconds"] - 0.5) / 0.5
        model = rules.add_rules(lab.model, [keeping.candidate(
            pattern=keeping.patterns.TopBlocks(60.0), refresh_overlap=0.9).rule("self", (), 0.0, 1.0)])  # fmt: skip
        report = lab.report(lab.sample(model, seed=1, steps=STEPS, latent=LATENT))
        assert share == pytest.approx(report.coverage.chosen / report.coverage.asked)


def test_a_call_that_keeps_its_choice_chooses_nothing(keeping, lab):
    """What is timed is that of a call whose blocks were chosen before."""
    runs, runner = {}, keeping.probe.runner

    def noting(rule, call, *more):
        runs[rule.shape.pattern.refresh, rule.shape.refresh_overlap] = runner(rule, call, *more)
        return runs[rule.shape.pattern.refresh, rule.shape.refresh_overlap]

    keeping.set(keeping.probe, "runner", noting)
    options_of(keeping)
    gather, count = lab.pack.attention.sparse.gather_blocks, []
    select = gather.select_blocks
    keeping.set(gather, "select_blocks", lambda *given, **more: (count.append(None), select(*given, **more))[1])
    for how, wanted in (((1, 0.0), 8), ((4, 0.0), 2), ((1, 0.9), 0)):
        count.clear()
        outputs = [runs[how]() for _ in range(8)]
        assert len(count) == wanted and all(torch.equal(one, outputs[0]) for one in outputs)


def test_nothing_is_tried_where_choosing_takes_no_time(keeping):
    keeping.set(keeping.probe, "time_in_turns", lambda runs, device: {
        name: 1.0 if name == "host" else 0.6 for name in runs})  # fmt: skip
    (options,), _ = options_of(keeping)
    assert set(options) == {"exact", "top blocks (keep 60)"}
    assert len(keeping.samplings) == 2 + 1 + 1, "exact, one that probes, the density, the plan"


def test_a_range_of_one_step_keeps_no_choice(keeping):
    options, _ = options_of(keeping, step_ranges=STEPS)
    assert len(options) == STEPS and all(set(part) <= {"exact", "top blocks (keep 60)"} for part in options)


# --- a plan that holds them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["ramp", "refresh", "overlap"])
def test_a_plan_goes_through_a_file_and_the_schedule(bench, lab, what):
    """Written in the oldest schema that says it, run as it was, and shown."""
    top = bench.patterns.TopBlocks(60.0)
    ramp = lab.pack.attention.patterns.ramp.Ramp(20.0, "steps")
    candidate = {
        "ramp": bench.candidate(pattern=top, ramp=ramp),
        "refresh": bench.candidate(pattern=replace(top, refresh=4)),
        "overlap": bench.candidate(pattern=top, refresh_overlap=0.9),
    }[what]
    plan = bench.calibrate(**HOW)["plan"]
    plan = replace(plan, steps=tuple(replace(step, candidate=candidate) for step in plan.steps[:1]))
    bench.plan.VideoAttentionSavePlan.execute(plan, what)
    model, again, _ = bench.plan.VideoAttentionLoadPlan.execute(lab.model, f"{what}.json").args
    plan_file = lab.pack.attention.plans.plan_file
    assert again == plan and plan_file._schema_of(plan) == {"overlap": 4}.get(what, 3)
    old = replace(plan, quantile=0.0, whole_seconds=0.0, whole_exact_seconds=0.0, forecasts=())
    assert plan_file._schema_of(old) == {"ramp": 2, "refresh": 1, "overlap": 4}[what]
    direct = lab.pack.nodes.host.model_rules.add_rules(lab.model, plan.rules())
    made = [lab.sample(one, seed=1, steps=STEPS, latent=LATENT) for one in (model, direct)]
    assert torch.equal(*made)
    table = lab.pack.nodes.schedule.VideoAttentionSchedule.execute(model, STEPS, "euler", "simple", 1.0).args[2]
    assert all(f"top blocks {keep} %" in table for keep in (60, 40, 20)) == (what == "ramp") and "top blocks" in table
