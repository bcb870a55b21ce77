"""A pattern whose percentage changes over the steps, in a real ComfyUI: the samplers, the report, the schedule."""

from __future__ import annotations

import pytest
from compiling import broken_at, graphs
from shaping import choices, error, shaped
from tiny import plain
from tiny.case import sample
from widget_defaults import defaults

PLAIN = plain()
# Text in one sequence, video alone, video and sound, all packed; the tiny grids have too few blocks, these have more.
FAMILIES = ("HunyuanVideo", "Wan", "LTX-2", "MiniMax-H3")
STEPS = 8


@pytest.fixture(scope="module")
def built(pack):
    import functools

    return functools.cache(lambda name: PLAIN[name].build())


def ramped(pack, model, pattern="top blocks", keep=100.0, **widgets):
    amount = {"top blocks": "keep", "blocks by mass": "mass"}[pattern]
    choice = {amount: keep, "token_order": "raster"}
    return shaped(pack, model, pattern, choice=choice, **widgets).args[0]


def percentages(report) -> dict[str, int]:
    """What self-attention ran by -> calls, in the order of the steps."""
    found: dict[str, int] = {}
    for step in report.timeline:
        for (role, used), calls in step.calls.items():
            if role == "self":
                found[used] = found.get(used, 0) + calls
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pattern", ["top blocks", "blocks by mass"])
def test_a_ramp_is_as_several_patterns_one_after_the_other(name, pattern, pack, built, inference):
    case, model = PLAIN[name], built(name)
    out = sample(ramped(pack, model, pattern, 60.0, ramp="linear", keep_end=45.0), case, steps=STEPS)
    report = pack.nodes.host.run_history.find(out)
    ran = percentages(report)
    assert [used.partition(" (")[0] for used in ran] == [f"{pattern} {keep:g} %" for keep in (60, 55, 50, 45)]
    assert len(set(ran.values())) == 1 and sum(ran.values()) == STEPS * case.calls["self"]
    apart = model
    for number, keep in enumerate((60.0, 55.0, 50.0, 45.0)):
        bounds = {"start_percent": number / 4, "end_percent": (number + 1) / 4}
        apart = ramped(pack, apart, pattern, keep, **bounds)
    assert error(out, sample(apart, case, steps=STEPS)) == 0.0


def test_a_constant_ramp_is_no_ramp(lab, pack):
    """What a workflow from before says, which has neither widget."""
    patched = ramped(pack, lab.model, keep=30.0, keep_end=70.0)
    (rule,) = pack.nodes.host.model_rules.rules_of(patched)
    assert rule.shape.ramp is None and rule.always
    node = pack.nodes.pattern.VideoAttentionPattern
    before = {k: v for k, v in defaults(node).items() if k not in ("ramp", "keep_end", "pattern", "latent")}
    old = node.execute(lab.model, pattern={"pattern": "top blocks", **choices(pack)["top blocks"]}, **before).args[0]
    assert pack.nodes.host.model_rules.rules_of(old)[0].shape.ramp is None


def test_steps_outside_of_the_range_stay_dense(lab, pack):
    options = {"ramp": "steps", "keep_end": 30.0, "start_percent": 0.25, "end_percent": 0.75}
    report = lab.report(lab.sample(ramped(pack, lab.model, keep=90.0, **options), steps=STEPS))
    by_step = [next(used for role, used in step.calls if role == "self") for step in report.timeline]
    dense = [number for number, used in enumerate(by_step) if not used.startswith("top blocks")]
    assert dense == [0, 1, 6, 7]
    assert [used.partition(" (")[0] for used in by_step[2:6]] == [
        "top blocks 90 %", "top blocks 90 %", "top blocks 60 %", "top blocks 30 %",
    ]  # fmt: skip


def test_the_report_says_the_density_of_the_run(lab, pack):
    options = {"ramp": "steps", "keep_end": 30.0, "start_percent": 0.25, "end_percent": 0.75}
    model = shaped(pack, lab.model, "top blocks", choice={"keep": 90.0, "tail": False}, **options).args[0]
    report = lab.report(lab.sample(model, steps=STEPS))
    # Of 8 steps two at 90, one at 60 and one at 30 percent, the others dense.
    assert report.coverage.density == pytest.approx((2 * 0.9 + 0.6 + 0.3) / 4)
    text = pack.attention.inspect.report_text.to_text(report)
    blocks = report.coverage.shaped // 4
    assert (
        f"Density: 68% of the video's (query, key) pairs in the {4 * blocks} shaped calls, 84% in all {8 * blocks}."
        in text
    )
    assert report.as_dict()["shaping"]["density"] == report.coverage.density
    mass = lab.report(lab.sample(ramped(pack, lab.model, "blocks by mass", 90.0), steps=2))
    assert mass.coverage.shaped and mass.coverage.density is None
    assert "Density" not in pack.attention.inspect.report_text.to_text(mass)


@pytest.mark.parametrize("refresh, overlap", [(1, 0.0), (4, 0.0), (1, 1e-6)])
def test_the_report_says_how_often_blocks_were_chosen(lab, pack, refresh, overlap):
    model = shaped(pack, lab.model, "top blocks", choice={"keep": 50.0, "refresh": refresh}, refresh_overlap=overlap)
    report = lab.report(lab.sample(model.args[0], steps=STEPS))
    text = pack.attention.inspect.report_text.to_text(report)
    # Two blocks of the model; any choice has so little of another.
    chosen = {(1, 0.0): None, (4, 0.0): 2 * 2, (1, 1e-6): 2}[refresh, overlap]
    said = f"Blocks were chosen anew in {chosen} of {2 * STEPS} calls that may keep those of an earlier step."
    assert (said in text) == (chosen is not None) and ("chosen anew" in text) == (chosen is not None)
    twice = pack.attention.inspect.combined_report.combine([report, report])
    assert (twice.coverage.asked, twice.coverage.chosen) == (2 * report.coverage.asked, 2 * report.coverage.chosen)
    assert report.as_dict()["shaping"]["chosen"] == (chosen or 0)


def test_engines_are_measured_once_for_a_ramp(lab, pack):
    options = {"ramp": "linear", "keep_end": 50.0, "auto_choice": "measure", "max_error": 1.0}
    report = lab.report(lab.sample(ramped(pack, lab.model, keep=90.0, **options), steps=STEPS))
    assert len({used for (role, used) in percentages_of(report)}) == STEPS
    assert len(report.measured) <= 1


def test_one_graph_serves_every_percentage(lab, pack, compiled):
    """The router is one operator of the graph: what it decides from step to step compiles nothing anew."""
    model = ramped(pack, lab.model, keep=90.0, ramp="linear", keep_end=30.0)
    truth = lab.sample(model, steps=STEPS)
    out = lab.sample(compiled(model), steps=STEPS)
    assert lab.error(out, truth) <= 1e-4 and graphs() == 1 and not broken_at()
    assert len(percentages(lab.report(out))) == STEPS


def percentages_of(report) -> set:
    return {row for step in report.timeline for row in step.calls if row[0] == "self"}


def test_the_schedule_says_each_percentage(lab, pack):
    patched = ramped(pack, lab.model, keep=90.0, ramp="cosine", keep_end=30.0)
    node = pack.nodes.schedule.VideoAttentionSchedule
    values = defaults(node) | {"steps": STEPS, "scheduler_name": "simple"}
    text = node.execute(patched, **{k: v for k, v in values.items() if k not in ("latent", "sigmas")}).args[2]
    said = [line.split(": ")[1] for line in text.splitlines() if "top blocks" in line]
    assert said[0] == "top blocks 90 %" and said[-1] == "top blocks 30 %" and len(said) == 8


def test_the_node_says_what_the_ramp_does(lab, pack):
    info = shaped(pack, lab.model, "top blocks", choice={"keep": 50.0, "tail": False}, ramp="linear", keep_end=30.0)
    assert "keep, linear: 50, 45, 40, 35, 30 percent, each for 1/5 of the covered steps" in info.args[2]
    assert "Density: 40.0%" in info.args[2]


def test_a_pattern_without_a_percentage_is_refused(lab, pack):
    with pytest.raises(ValueError, match="ramp: spatial has no percentage"):
        shaped(pack, lab.model, "spatial", ramp="linear")


def test_a_threshold_goes_from_the_first_to_the_last(pack, built, inference):
    case, model = PLAIN["Wan"], built("Wan")
    choice = {"tau": 1.0, "token_order": "raster"}
    patched = shaped(pack, model, "adaptive blocks", choice=choice, ramp="linear", keep_end=50.0, tau_end=1.75).args[0]
    report = pack.nodes.host.run_history.find(sample(patched, case, steps=STEPS))
    assert [used.partition(" (")[0] for used in percentages(report)] == [
        f"adaptive blocks tau {tau:g}" for tau in (1, 1.25, 1.5, 1.75)
    ]
    (rule,) = pack.nodes.host.model_rules.rules_of(patched)
    told = pack.nodes.widgets.as_nodes.of_rule(rule)["inputs"]
    assert told["tau_end"] == 1.75 and "keep_end" not in told and told["refresh_overlap"] == 0.0


def test_an_overlap_is_handed_on(pack, built, inference):
    model = built("Wan")
    choice = {"keep": 50.0, "token_order": "raster"}
    patched = shaped(pack, model, "top blocks", choice=choice, refresh_overlap=0.9).args[0]
    (rule,) = pack.nodes.host.model_rules.rules_of(patched)
    assert rule.shape.refresh_overlap == 0.9
    assert pack.nodes.widgets.as_nodes.of_rule(rule)["inputs"]["refresh_overlap"] == 0.9
