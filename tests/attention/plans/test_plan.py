"""Plans as files: what is written is read, what is not exactly a plan is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest
from plans_made import FORECASTS, SHAPES, before, data, make_plan, make_step

from attention import patterns
from attention.core.site import CROSS, SELF, SPATIAL, TEXT
from attention.plans import plan_file
from attention.plans.plan import Candidate, Plan
from attention.plans.plan_file import BadPlan, from_json, to_json
from attention.reuse import ReuseSettings
from attention.routing.rules import CHOICES


def test_every_pattern_of_plain_numbers_can_be_in_a_plan():
    assert {type(pattern) for pattern in SHAPES} == set(plan_file.PATTERNS.values())


def test_what_is_written_is_read():
    assert from_json(to_json(make_plan())) == make_plan()
    assert from_json(to_json(make_plan(steps=(), versions=()))) == make_plan(steps=(), versions=())
    every = make_plan(steps=tuple(make_step(Candidate(pattern=pattern), i) for i, pattern in enumerate(SHAPES)))
    assert from_json(to_json(every)) == every


@pytest.mark.parametrize("backend", [name for name in CHOICES if name != "auto"])
def test_every_backend_can_be_in_a_plan(backend):
    one = make_plan(steps=(make_step(Candidate(backend)),))
    assert from_json(to_json(one)) == one


def test_the_rules_of_a_plan():
    *_, sage = make_plan().rules()
    assert (sage.backend, sage.role, sage.blocks, sage.start, sage.end) == ("sage", CROSS, ((0, 3),), 0.25, 1.0)
    assert make_plan().rules()[0].shape.pattern == patterns.Spatial()


def test_names_of_candidates_differ():
    candidates = [Candidate(pattern=pattern) for pattern in SHAPES]
    assert len({candidate.name for candidate in candidates}) == len(SHAPES)
    assert Candidate(pattern=patterns.SlidingTile()).name == "sliding tile (frames 12, height 50, width 50)"
    assert Candidate(pattern=patterns.Spatial()).name == "spatial"
    assert Candidate(pattern=SHAPES[-1]).name == "top blocks (keep 50, by_heads 50/12.5)"
    assert Candidate("sage").name == "sage"


def test_a_pattern_fits_the_video_alone():
    shape, kernel = Candidate(pattern=patterns.Spatial()), Candidate("sage")
    assert [shape.fits(role) for role in (SELF, SPATIAL, CROSS, TEXT)] == [True, True, False, False]
    assert all(kernel.fits(role) for role in (SELF, SPATIAL, CROSS, TEXT))


def test_the_longest_plans_and_words_are_read():
    """What BAD_PLANS has one more of."""
    versions = tuple((f"package {i}", "x" * 200) for i in range(64))
    one = make_plan(steps=(make_step(Candidate("sage")),) * plan_file.MAX_STEPS, versions=versions, model="x" * 200)
    assert from_json(to_json(one)) == one
    last = make_plan(steps=(make_step(Candidate("sage"), blocks=(0, 10**6 - 1)),))
    assert from_json(to_json(last)) == last
    text = to_json(make_plan())
    assert from_json(text + " " * (plan_file.MAX_BYTES - len(text))) == make_plan()


def test_a_plan_with_a_ramp_makes_its_rule():
    step = next(step for step in make_plan().steps if step.candidate.ramp)
    assert step.rule().shape.ramp == step.candidate.ramp and step.rule().stretches == 8
    assert "keep 50 to 15 cosine" in step.candidate.name


# --- files that are no plan -------------------------------------------------------------------------------------------

DEEP = "[" * 100_000
BAD_FILES = {
    "empty": ("", "not JSON"),
    "a list": ("[]", "not a video attention plan"),
    "another JSON": ('{"nodes": []}', "not a video attention plan"),
    "cut off": (to_json(make_plan())[:-20], "not JSON"),
    "too long": (" " * (plan_file.MAX_BYTES + 1), "more than"),
    "nested without end": (DEEP, "not JSON"),
    "a schema to come": (
        json.dumps({**data(), plan_file.NAME: plan_file.SCHEMAS[-1] + 1}),
        f"of schema {plan_file.SCHEMAS[-1] + 1}, this version of the pack reads schema 1 to {plan_file.SCHEMAS[-1]}",
    ),
    "reuse in a file from before": (
        json.dumps({**json.loads(to_json(before())), plan_file.NAME: 2, "steps": [data()["steps"][-3]]}),
        "'reuse' does not belong there",
    ),
    "an overlap in a file from before": (
        json.dumps({**data(), plan_file.NAME: 3}),
        "'refresh_overlap' does not belong there",
    ),
    "memory in a file from before": (
        json.dumps({**data(), "steps": [{**data()["steps"][0], "memory": 8}]}),
        "'memory' does not belong there",
    ),
    "a ramp in a file from before": (
        json.dumps({**json.loads(to_json(before())), plan_file.NAME: 1}),
        "'ramp' does not belong there",
    ),
    "forecasts in a file from before": (json.dumps({**data(), plan_file.NAME: 2}), "'quantile' does not belong there"),
    "a schema that is no number": (json.dumps({**data(), plan_file.NAME: True}), "not a video attention plan"),
    "a name twice": (to_json(make_plan()).replace('"heads": 32', '"heads": 32, "heads": 2'), "twice"),
    "NaN": (to_json(make_plan()).replace('"budget": 0.03', '"budget": NaN'), "NaN is no JSON number"),
    "a number beyond floats": (to_json(make_plan()).replace('"budget": 0.03', f'"budget": {10**400}'), "budget"),
    "a number of 5000 digits": (to_json(make_plan()).replace('"budget": 0.03', f'"budget": {"9" * 5000}'), "not JSON"),
    "infinity": (to_json(make_plan()).replace('"budget": 0.03', '"budget": 1e999'), "budget"),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_files_that_are_no_plan(what):
    text, words = BAD_FILES[what]
    with pytest.raises(BadPlan, match=words):
        from_json(text)


PATTERN = {"name": "temporal window", "frames": 5}
TOP = {"name": "top blocks", "keep": 20.0, "order": "tile", "tail": False, "refresh": 1, "by_heads": []}
BAD_PLANS = {
    "a name too much": ({"run": "x"}, "'run' does not belong there"),
    "heads below zero": ({"heads": -1}, "heads is not a count"),
    "heads as true": ({"heads": True}, "heads is not a count"),
    "model a number": ({"model": 1}, "model is not a short text"),
    "model too long": ({"model": "x" * 201}, "model is not a short text"),
    "half a surrogate pair": ({"device": "\ud800"}, "device is not a short text"),
    "a line break": ({"device": "a\nb"}, "device is not a short text"),
    "error below zero": ({"error": -0.1}, "error is not a number"),
    "error as text": ({"error": "0.1"}, "error is not a number"),
    "versions a list": ({"versions": []}, "versions is not a short table"),
    "a version a number": ({"versions": {"torch": 2}}, "versions is not a short text"),
    "steps a table": ({"steps": {}}, "steps is not a list"),
    "too many steps": ({"steps": [0] * (plan_file.MAX_STEPS + 1)}, "steps is not a list of at most"),
    "a step a number": ({"steps": [7]}, "step 0 is not a table"),
    "a quantile above 1": ({"quantile": 90}, "quantile is not a number from 0 to 1"),
    "forecasts a table": ({"forecasts": {}}, "forecasts is not a list"),
    "a forecast a number": ({"forecasts": [7]}, "forecast 0 is not a table"),
}
SETTINGS = dataclasses.asdict(FORECASTS[0].settings)
BAD_FORECASTS = {
    "a name too much": ({"run": 1}, "'run' does not belong there"),
    "start after end": ({"start": 0.6}, "ends before it begins"),
    "error as text": ({"error": "0.1"}, "error is not a number"),
    "settings a list": ({"settings": []}, "settings is not a table"),
    "settings with a strange name": ({"settings": {**SETTINGS, "run": 1}}, "'run' does not belong there"),
    "an unknown method": ({"settings": {**SETTINGS, "method": "guess"}}, "method: 'guess' is none of"),
    "a method as a number": ({"settings": {**SETTINGS, "method": 1}}, "method cannot be 1"),
    "half a step": ({"settings": {**SETTINGS, "in_a_row": 1.5}}, "in_a_row cannot be 1.5"),
    "steps without end": ({"settings": {**SETTINGS, "warm_up": 10**30}}, "warm_up cannot be 1000"),
    "steps below zero": ({"settings": {**SETTINGS, "last": -1}}, "last: -1 is less than 0"),
    "an error below zero": ({"settings": {**SETTINGS, "max_error": -1.0}}, "max_error: -1"),
    "an error beyond floats": ({"settings": {**SETTINGS, "max_error": 10**400}}, "max_error cannot be 1000"),
    "true as a number": ({"settings": {**SETTINGS, "history": True}}, "history cannot be True"),
    "offload as a number": ({"settings": {**SETTINGS, "offload": 1}}, "offload cannot be 1"),
}
RAMP = {"end": 10.0, "shape": "linear"}
KEPT = dataclasses.asdict(ReuseSettings())
BAD_STEPS = {
    "reuse with a pattern": ({"reuse": KEPT}, "reuse comes with a backend, a pattern or memory"),
    "reuse with memory": ({"pattern": None, "reuse": KEPT, "memory": 8}, "comes with a backend, a pattern or memory"),
    "memory of nothing": ({"memory": 0}, "memory is not a number of MiB from 1 to"),
    "memory below zero": ({"memory": -8}, "memory is not a number of MiB from 1 to"),
    "half a MiB": ({"memory": 0.5}, "memory is not a number of MiB from 1 to"),
    "memory as true": ({"memory": True}, "memory is not a number of MiB from 1 to"),
    "memory beyond all": ({"memory": plan_file.MAX_MEMORY + 1}, "memory is not a number of MiB from 1 to"),
    "reuse as a number": ({"pattern": None, "reuse": 2}, "settings is not a table"),
    "reuse of no step": ({"pattern": None, "reuse": {**KEPT, "every": 0}}, "every: 0 must lie between"),
    "reuse in no memory": ({"pattern": None, "reuse": {**KEPT, "budget": 0}}, "budget: 0 MiB is less"),
    "reuse without a storage": ({"pattern": None, "reuse": {**KEPT, "storage": "disk"}}, "storage: 'disk' is none of"),
    "a ramp without a pattern": ({"backend": "sage", "pattern": None, "ramp": RAMP}, "a ramp without a pattern"),
    "a ramp of a fixed pattern": ({"ramp": RAMP}, "a ramp of spatial cannot be"),
    "a ramp as a number": ({"pattern": TOP, "ramp": 5}, "a ramp of top blocks cannot be 5"),
    "a ramp without a shape": ({"pattern": TOP, "ramp": {"end": 5}}, "'shape' is missing"),
    "a ramp of an unknown shape": ({"pattern": TOP, "ramp": {**RAMP, "shape": "zigzag"}}, "'zigzag' is none of"),
    "a ramp to nothing": ({"pattern": TOP, "ramp": {**RAMP, "end": 0}}, "keep_end: 0 must lie between"),
    "a ramp beyond all": ({"pattern": TOP, "ramp": {**RAMP, "end": 101}}, "end is not a number from 0 to 100"),
    "a name too much": ({"command": "x"}, "'command' does not belong there"),
    "an unknown role": ({"role": "pose"}, "role 'pose' is not known"),
    "a role as a list": ({"role": ["self"]}, "is not known"),
    "one block": ({"blocks": [1]}, "pair of block numbers"),
    "blocks backwards": ({"blocks": [3, 1]}, "ends before it begins"),
    "blocks as fractions": ({"blocks": [0.5, 1]}, "pair of block numbers"),
    "start after end": ({"start": 0.6}, "ends before it begins"),
    "end above 1": ({"end": 1.5}, "end is not a number from 0 to 1"),
    "local as text": ({"local": "x"}, "local is not a number"),
    "auto": ({"backend": "auto", "pattern": None}, "backend 'auto' is not known"),
    "an unknown backend": ({"backend": "os", "pattern": None}, "backend 'os' is not known"),
    "a backend as a list": ({"backend": ["sage"], "pattern": None}, "is not known"),
    "neither": ({"backend": "", "pattern": None}, "backend '' is not known"),
    "both": ({"backend": "sage"}, "comes with a backend"),
    "an unknown pattern": ({"pattern": {"name": "union", "parts": []}}, "pattern 'union' is not known"),
    "a pattern as text": ({"pattern": "spatial"}, "is not known"),
    "a pattern named by a list": ({"pattern": {"name": []}}, "is not known"),
    "no frames": ({"pattern": {"name": "temporal window"}}, "'frames' is missing"),
    "frames of another pattern": ({"pattern": {**PATTERN, "keep": 1.0}}, "'keep' does not belong there"),
    "frames a fraction": ({"pattern": {**PATTERN, "frames": 1.5}}, "frames of temporal window cannot be 1.5"),
    "frames zero": ({"pattern": {**PATTERN, "frames": 0}}, "cannot be 0"),
    "frames without end": ({"pattern": {**PATTERN, "frames": 10**30}}, "cannot be 1000"),
    "keep beyond floats": (
        {"pattern": {**TOP, "keep": 10**400}}, "cannot be",
    ),
    "a group of heads with more than all": (
        {"pattern": {**TOP, "by_heads": [20.5, 5]}}, "by_heads: 20.5 is more than keep, which is 20",
    ),
    "a group of heads with nothing": ({"pattern": {**TOP, "by_heads": [20, 0]}}, "by_heads of top blocks cannot be"),
    "a group of heads as true": ({"pattern": {**TOP, "by_heads": [True]}}, "by_heads of top blocks cannot be"),
    "groups of heads as a number": ({"pattern": {**TOP, "by_heads": 20}}, "by_heads of top blocks cannot be 20"),
    "too many groups of heads": (
        {"pattern": {**TOP, "by_heads": [1] * (plan_file.MAX_GROUPS + 1)}}, "by_heads of top blocks cannot be",
    ),
    "keep nothing": ({"pattern": {**TOP, "keep": 0}}, "cannot be 0"),
    "an unknown order": (
        {"pattern": {**TOP, "order": "random"}}, "cannot be 'random'",
    ),
    "a weight above 1": ({"pattern": {"name": "spatial and temporal", "weight": 2}}, "cannot be 2"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_PLANS)
def test_plans_with_a_wrong_part(what):
    change, words = BAD_PLANS[what]
    with pytest.raises(BadPlan, match=words):
        from_json(json.dumps({**data(), **change}))


@pytest.mark.parametrize("what", BAD_FORECASTS)
def test_forecasts_with_a_wrong_part(what):
    change, words = BAD_FORECASTS[what]
    whole = data()
    whole["forecasts"] = [{**whole["forecasts"][0], **change}]
    with pytest.raises(BadPlan, match=words):
        from_json(json.dumps(whole))


@pytest.mark.parametrize("what", BAD_STEPS)
def test_steps_with_a_wrong_part(what):
    change, words = BAD_STEPS[what]
    whole = {**data(), plan_file.NAME: plan_file.SCHEMAS[-1]}
    whole["steps"] = [{**whole["steps"][0], **change}]
    with pytest.raises(BadPlan, match=words):
        from_json(json.dumps(whole))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Plan)])
def test_nothing_of_a_plan_may_be_missing(name):
    whole = data()
    del whole[name]
    with pytest.raises(BadPlan, match=f"'{name}' is missing"):
        from_json(json.dumps(whole))


# --- where a plan fits ------------------------------------------------------------------------------------------------


def here(**other) -> Plan:
    """The model at hand, as nodes/runs/plans.py describes it."""
    return before(steps=(), **other)


def test_it_fits_the_model_it_was_made_for():
    assert make_plan().fitting(here()) == (make_plan(), [])
    assert make_plan().fitting(here(tokens=0)) == (make_plan(), [])


@pytest.mark.parametrize(
    ("at_hand", "kept", "words"),
    [
        ({"model": "WanModel"}, 0, "The plan is for LTXVModel, this is WanModel: not applied."),
        ({"blocks": 5}, 6, "10 of 16 rules are for blocks that are not here"),
        ({"heads": 16}, 16, "28 blocks and 16 heads of 64"),
        ({"fingerprint": "f" * 16}, 16, "(structure ffffffff)"),
        ({"device": "NVIDIA RTX 4090"}, 16, "measured on NVIDIA H100, this is NVIDIA RTX 4090: errors hold"),
        ({"tokens": 64}, 16, "calibrated on 512 video tokens, these are 64"),
    ],
)
def test_one_sentence_says_where_it_does_not_fit(at_hand, kept, words):
    fits, said = make_plan().fitting(here(**at_hand))
    assert len(fits.steps) == kept and len(fits.forecasts) == (2 if kept else 0)
    assert len(said) == 1 and words in said[0] and said[0].endswith(".")
