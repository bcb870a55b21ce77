"""Schemas of plans' files: what older versions wrote loads unchanged; each plan is written in the oldest that fits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from plans_made import FORECASTS, before, make_plan, make_step

from attention.patterns import TopBlocks
from attention.patterns.blocks import MOST_SINGLES
from attention.plans import plan_file
from attention.plans.plan import Candidate
from attention.plans.plan_file import from_json, to_json
from attention.reuse import ReuseSettings


def test_files_from_before_ramps_are_what_they_were():
    """One without a ramp is written as it always was, and read."""
    plain = before(steps=tuple(step for step in before().steps if step.candidate.ramp is None))
    written = json.loads(to_json(plain))
    assert written[plan_file.NAME] == 1 and not any("ramp" in step for step in written["steps"])
    assert from_json(json.dumps(written)) == plain and json.loads(to_json(before()))[plan_file.NAME] == 2


# As a version without forecasts wrote it, letter by letter.
OLD = """{
 "video_attention_plan": %s, "model": "LTXVModel", "fingerprint": "0123456789abcdef", "blocks": 28, "heads": 32,
 "head_dim": 64, "device": "NVIDIA H100", "tokens": 512, "sampling": "euler, cfg 1", "budget": 0.03, "error": 0.02,
 "realised": 0.021, "exact_seconds": 12.5, "seconds": 6.25, "versions": {"torch": "2.9"}, "steps": [
  {"backend": "", "pattern": {"name": "top blocks", "keep": 50.0, "order": "raster", "tail": false, "refresh": 1,
   "by_heads": []}, %s"role": "self", "blocks": [0, 3], "start": 0.0, "end": 0.5, "error": 0.01, "local": 0.1,
   "effect": null, "seconds": 1.5, "exact_seconds": 3.0},
  {"backend": "sage", "pattern": null, "role": "cross", "blocks": [4, 7], "start": 0.25, "end": 1.0, "error": 0.01,
   "local": 0.1, "effect": 0.02, "seconds": 1.5, "exact_seconds": 3.0}]}"""


@pytest.mark.parametrize("schema, ramp", [(1, ""), (2, '"ramp": {"end": 15.0, "shape": "cosine"}, ')])
def test_files_from_before_forecasts_load_unchanged(schema, ramp):
    found = from_json(OLD % (schema, ramp))
    assert found.budget == 0.03 and found.steps[1].candidate == Candidate("sage")
    assert (found.quantile, found.whole_seconds, found.forecasts, found.spans()) == (0.0, 0.0, (), ())
    assert json.loads(to_json(found)) == json.loads(OLD % (schema, ramp)), "written as it was"


def test_a_plan_with_memory_is_of_a_new_schema():
    steps = (make_step(Candidate("sage", memory=512)), make_step(Candidate("sdpa")))
    limited = before(steps=steps)
    written = json.loads(to_json(limited))
    assert written[plan_file.NAME] == plan_file.WITH_MEMORY and limited.memory == 512
    assert [step.get("memory") for step in written["steps"]] == [512, None]
    assert from_json(json.dumps(written)) == limited
    assert [rule.memory for rule in from_json(json.dumps(written)).rules()] == [512, 0]
    assert json.loads(to_json(before()))[plan_file.NAME] < plan_file.WITH_MEMORY, "no plan without one is of it"


def test_every_candidate_keeps_its_memory_in_a_file():
    steps = tuple(
        replace(step, candidate=step.candidate.within(64)) for step in make_plan().steps if not step.candidate.reuse
    )
    limited = make_plan(steps=steps)
    assert {step.candidate.memory for step in from_json(to_json(limited)).steps} == {64}
    assert from_json(to_json(limited)) == limited
    assert Candidate(reuse=ReuseSettings()).within(64).memory == 0


def test_a_plan_with_forecasts_is_of_a_new_schema():
    written = json.loads(to_json(make_plan(steps=())))
    assert written[plan_file.NAME] == 3 and written["forecasts"][0]["settings"]["in_a_row"] == 6
    assert [(span.settings, span.start, span.end) for span in make_plan().spans()] == [
        (one.settings, one.start, one.end) for one in FORECASTS
    ]
    assert json.loads(to_json(before(quantile=0.9)))[plan_file.NAME] == 3
    kept = before(steps=(make_step(Candidate(reuse=ReuseSettings(every=3, offload=True))),))
    assert json.loads(to_json(kept))[plan_file.NAME] == 3 and from_json(to_json(kept)) == kept
    assert kept.rules()[0].reuse == ReuseSettings(every=3, offload=True)


def test_a_plan_with_single_tokens_is_of_a_schema_of_its_own():
    seen = Candidate(pattern=TopBlocks(50.0, singles=128))
    plan = before(steps=(make_step(seen), make_step(Candidate(pattern=TopBlocks(50.0)))))
    written = json.loads(to_json(plan))
    assert written[plan_file.NAME] == plan_file.WITH_SINGLES == 6
    assert [step.get("singles") for step in written["steps"]] == [128, None]
    assert all("singles" not in step["pattern"] for step in written["steps"]), "older versions know no such field"
    assert from_json(json.dumps(written)) == plan and plan.rules()[0].shape.pattern.singles == 128
    assert seen.name == "top blocks (keep 50, singles 128)"
    most = before(steps=(make_step(Candidate(pattern=TopBlocks(50.0, singles=MOST_SINGLES))),))
    assert from_json(to_json(most)) == most
    # Without them it is what it was, and files of older schemas have none.
    assert json.loads(to_json(before()))[plan_file.NAME] < 6
    written[plan_file.NAME] = 5
    with pytest.raises(plan_file.BadPlan, match="'singles' does not belong there"):
        from_json(json.dumps(written))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"singles": 0}, "singles of top blocks cannot be 0"),
        ({"singles": True}, "singles of top blocks cannot be True"),
        ({"singles": MOST_SINGLES + 1}, "singles of top blocks cannot be 257"),
        ({"pattern": {"name": "spatial"}}, "singles of spatial cannot be 128"),
        ({"pattern": None, "backend": "sage"}, "singles without a pattern"),
    ],
)
def test_singles_that_mean_nothing_are_refused(change, words):
    written = json.loads(to_json(before(steps=(make_step(Candidate(pattern=TopBlocks(50.0, singles=128))),))))
    written["steps"][0] |= change
    with pytest.raises(plan_file.BadPlan, match=words):
        from_json(json.dumps(written))


def test_a_plan_that_keeps_choices_by_overlap():
    """In a schema of its own, which the rule, the name and the file say alike."""
    kept = Candidate(pattern=TopBlocks(50.0, refresh=4), refresh_overlap=0.9)
    plan = before(steps=(make_step(kept),))
    written = json.loads(to_json(plan))
    assert written[plan_file.NAME] == 4 and written["steps"][0]["refresh_overlap"] == 0.9
    assert from_json(to_json(plan)) == plan and plan.rules()[0].shape.refresh_overlap == 0.9
    assert kept.name == "top blocks (keep 50, refresh 4, refresh_overlap 0.9)" != Candidate(pattern=kept.pattern).name
    # All that came before it may stand beside it.
    assert from_json(to_json(make_plan())) == make_plan() and json.loads(to_json(make_plan()))[plan_file.NAME] == 4


@pytest.mark.parametrize(
    "change, words",
    [
        ({"refresh_overlap": 0.0}, "a refresh_overlap of 0"),
        ({"refresh_overlap": 1.5}, "refresh_overlap is not a number from 0 to 1"),
        ({"pattern": {"name": "spatial"}}, "spatial chooses no blocks"),
        ({"pattern": None, "backend": "sage"}, "without a pattern"),
    ],
)
def test_an_overlap_that_means_nothing_is_refused(change, words):
    kept = Candidate(pattern=TopBlocks(50.0, refresh=4), refresh_overlap=0.9)
    written = json.loads(to_json(before(steps=(make_step(kept),))))
    written["steps"][0] |= change
    with pytest.raises(plan_file.BadPlan, match=words):
        from_json(json.dumps(written))
