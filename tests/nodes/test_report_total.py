"""What a report says of patterns, of grids and windows, of evaluations, and of several runs together."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from counted_runs import BACKENDS, HOST, add, call, make_stats, make_stepped

from attention.core.canvas import PAPER
from attention.core.site import CROSS, SELF, SPATIAL, AttentionSite
from attention.inspect import draw_report
from attention.inspect.combined_report import combine
from attention.inspect.pattern_coverage import coverage_of
from attention.inspect.report import summarise
from attention.inspect.report_text import headline, to_text
from attention.inspect.rule_coverage import sentences
from attention.patterns import Spatial
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats

PATTERN = Rule("", SELF, shape=Shape(Spatial()))


def shaped(stats, calls, fell_back=0, reason=None, role=SELF):
    add(
        stats, role, 0, "spatial (folded)", calls, wanted="spatial", reason=reason, fell_back=fell_back,
        rules=(PATTERN, BACKENDS["sdpa"]),
    )  # fmt: skip


def dense(stats, calls, why, role=SELF):
    add(stats, role, 0, "sdpa", calls, rules=(BACKENDS["sdpa"], PATTERN), unshaped=("spatial", why), dense=why)


def lines(stats) -> list[str]:
    """What a report says of each rule."""
    return sentences(summarise(stats).rules)


def of_pattern(stats) -> str:
    (line,) = (line for line in lines(stats) if line.startswith("Pattern"))
    return line


def test_a_pattern_that_shaped_all_says_so():
    stats = RunStats()
    shaped(stats, 20)
    add(stats, CROSS, 0, "sdpa", 20)
    assert lines(stats) == [
        "Pattern spatial: 20 of 20 self-attention calls.",
        "Backend sdpa: 20 of 20 attention calls.",
    ]
    assert summarise(stats).as_dict()["shaping"]["shaped"] == 20


def test_a_pattern_that_shaped_nothing_says_why_first():
    """With a Backend on all calls the first sentence alone would claim that everything is as the user wished."""
    stats = RunStats("LTXAVModel", (4, 8, 16), 8)
    dense(stats, 32, "guides of part strength: self-attention in parts (36 x 108 tokens)")
    add(stats, CROSS, 0, "sdpa", 80)
    assert "LTXAVModel, 4 x 8 x 16 tokens" in headline(summarise(stats))
    assert lines(stats) == [
        "Backend sdpa: 112 of 112 attention calls.",
        "Pattern spatial: 0 of 32 self-attention calls (guides of part strength: self-attention in parts "
        "(36 x 108 tokens)).",
    ]


def test_a_pattern_that_shaped_some_names_the_most_frequent_reason():
    stats = RunStats()
    shaped(stats, 20, fell_back=3, reason="RuntimeError: broken")
    dense(stats, 8, "512 video tokens, fewer than min_tokens", SPATIAL)
    dense(stats, 1, "no grid")
    assert of_pattern(stats) == (
        "Pattern spatial: 17 of 29 self-attention calls (512 video tokens, fewer than min_tokens, and 2 more reasons)."
    )
    data = summarise(stats).as_dict()["shaping"]
    assert (data["shaped"], data["covered"], sum(row["calls"] for row in data["reasons"])) == (17, 29, 12)


def test_a_pattern_whose_blocks_and_steps_cover_nothing():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 12)
    assert lines(stats) == ["Backend sdpa: 12 of 12 attention calls."]
    stats.patterned = (PATTERN,)
    assert of_pattern(stats) == "Pattern spatial: 0 of 12 self-attention calls (none is in its blocks and steps)."


def test_a_pattern_that_no_call_reached_names_who_ran_them():
    """Its node, another pack's override, a node of ours again: only the last one is asked."""
    stats = RunStats()
    stats.patterned = (Rule("", SELF, ((1, 3),), shape=Shape(Spatial())),)
    above = Router((Rule("sdpa", role=CROSS),), previous=lambda *args: None)
    for block in range(6):
        decision = add(stats, SELF, block, "ComfyUI-KJNodes", 4, wanted=None)
        stats.decisions[above, block] = stats.decisions.popitem()[1]
        assert decision.rule is None
    stats.add_bypass("ComfyUI-bleh", "in these steps", AttentionSite("LTXV", SELF, 2))
    assert of_pattern(stats) == (
        "Pattern spatial: 0 of 13 self-attention calls (taken by ComfyUI-KJNodes, and 1 more reason)."
    )


def test_notes_that_count_alike_in_several_runs_say_so():
    runs = [make_stats() for _ in range(3)]
    for stats in runs[:2]:
        stats.spend("Spatiotemporal guidance", "model call")
    for stats in runs:
        stats.notes += ["4 of 120 attention calls were taken.", "A run was stopped before its end."]
    both = combine([summarise(stats) for stats in runs])
    said = [
        "Spatiotemporal guidance: 1 model call more. In 2 of 3 runs.",
        "4 of 120 attention calls were taken. In each of 3 runs.",
        "A run was stopped before its end.",
    ]
    assert to_text(both).splitlines()[-3:] == said == both.as_dict()["notes"]
    assert "In each" not in to_text(summarise(runs[0]))


def test_a_guidance_is_no_pattern():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 12, unshaped=("Spatiotemporal guidance", "no grid"))
    assert lines(stats) == ["Backend sdpa: 12 of 12 attention calls."] and coverage_of(stats) is None


def test_why_no_call_was_seen_is_in_the_headline_and_only_there():
    stats = RunStats("WanModel")
    stats.notes += ["Known to be out of reach: all calls under ar_video.", "Something else."]
    text = to_text(summarise(stats))
    assert text.splitlines()[0] == (
        "WanModel: no attention call was seen. Known to be out of reach: all calls under ar_video."
    )
    assert text.count("out of reach") == 1 and text.endswith("Something else.")


def test_all_grids_and_windows_are_told():
    stats = RunStats("LTXVModel", None, 4)
    add(stats, SELF, 0, "sdpa", 1)
    for grid in ((4, 8, 16), (4, 8, 16), (3, 8, 16)):
        stats.saw(grid)
    assert "LTXVModel, 4 x 8 x 16 and 3 x 8 x 16 tokens (time x height x width), 4 steps" in headline(summarise(stats))
    for window in ((0, 3), (0, 3), (3, 6)):
        stats.saw((4, 8, 16), window)
    assert "LTXVModel, 2 windows of 4 x 8 x 16 and 3 x" in headline(summarise(stats))
    for frames in range(5, 10):
        stats.saw((frames, 8, 16))
    text, data = headline(summarise(stats)), summarise(stats).as_dict()
    assert "5 x 8 x 16 and 4 more tokens" in text and "6 x 8 x 16" not in text
    assert data["grid"] == [4, 8, 16] and len(data["grids"]) == 7 and data["windows"] == 2


@pytest.mark.parametrize("marks, asked, evaluations, words", [
    (4, 4, 4, "4 steps:"),
    (4, 4, 7, "4 steps (7 model evaluations):"),
    (7, 3, 7, "7 steps:"),
    (5, 3, 9, "5 steps (9 model evaluations):"),
    (2, 4, 2, "2 steps:"),
])  # fmt: skip
def test_steps_are_those_that_were_made(marks, asked, evaluations, words):
    """Of samplers that tell each part of a step, or evaluate twice; both lines of the report agree."""
    stats = make_stepped(steps=marks)
    stats.steps, stats.evaluations = asked, evaluations
    text = to_text(summarise(stats))
    assert words in text.splitlines()[1] and f"Time: {marks} steps" in text


def test_several_runs_are_summed_up():
    runs = [make_stats(timed=True), make_stepped(timed=True), RunStats("WanModel", (1, 2, 3), 2)]
    shaped(runs[1], 5)
    dense(runs[2], 4, "no grid")
    runs[2].notes.append("A note.")
    reports = [summarise(stats) for stats in runs]
    both, data = combine(reports), combine(reports).as_dict()
    assert both.calls == sum(report.calls for report in reports) and both.ruled == sum(r.ruled for r in reports)
    assert both.seconds == pytest.approx(sum(report.seconds for report in reports))
    assert both.fallbacks == reports[0].fallbacks + reports[1].fallbacks + reports[2].fallbacks
    assert [lap.step for lap in both.timeline] == [1, 2, 3, 4] and both.steps == 20 + 4 + 2 and both.runs == 3
    said = "LTXVModel and WanModel, 4 x 8 x 16 and 1 x 2 x 3 tokens (time x height x width), 3 runs, 26 steps: "
    assert said in headline(both) and "Pattern spatial: 5 of 9 self-attention calls (no grid)." in headline(both)
    assert json.loads(json.dumps(data)) == data and data["runs"] == 3 and both.notes == ("A note.",)
    draw_report.draw_report(both)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_summing_up_does_not_depend_on_how_it_is_bracketed(order):
    reports = [summarise(stats) for stats in (make_stats(True), make_stepped(True), make_stats())]
    one, two, three = (reports[i] for i in order)
    assert combine([combine([one, two]), three]) == combine([one, two, three]) == combine([one, combine([two, three])])
    assert combine([one]) is one and combine([]) is None


def test_summing_up_leaves_the_reports_as_they_are():
    reports = [summarise(make_stats()), summarise(make_stats())]
    before = [report.as_dict() for report in reports]
    assert combine(reports).calls == 640 and [report.as_dict() for report in reports] == before


def test_a_long_headline_stays_inside_the_picture():
    stats = RunStats("LTXAVModel", (4, 8, 16), 8)
    dense(stats, 32, "a reason that goes on and on " * 6)
    add(stats, CROSS, 0, HOST, 80, of=call(512, 77), reason="broken", fell_back=80)
    picture = draw_report.draw_report(summarise(stats))
    margin = picture.crop((picture.width - 8, 0, picture.width, picture.height))
    assert margin.getcolors() == [(margin.width * margin.height, PAPER)]


def test_calls_that_another_pack_took_are_told_by_its_name():
    stats = RunStats("LTXVModel", (4, 8, 16), 2)
    stats.patterned = (PATTERN,)
    for _ in range(6):
        stats.add_bypass("ComfyUI-OtherPack", "replaced", AttentionSite("LTXV", SELF, 0))
    add(stats, CROSS, 0, "sdpa", 6)
    assert of_pattern(stats) == "Pattern spatial: 0 of 6 self-attention calls (taken by ComfyUI-OtherPack)."


@pytest.mark.parametrize("sampler, steps", [("euler", "3 steps:"), ("heun", "3 steps (5 model evaluations):")])
def test_evaluations_of_a_real_sampler(lab, sampler, steps):
    import comfy.sample

    latent = torch.zeros(1, 128, 2, 3, 4)
    noise, (positive, negative) = comfy.sample.prepare_noise(latent, 1), lab.prompt
    out = comfy.sample.sample(
        lab.backend(), noise, 3, 1.0, sampler, "simple", positive, negative, latent, disable_pbar=True, seed=1
    )
    text = to_text(lab.report(out))
    assert steps in text.splitlines()[1] and "Time: 3 steps" in text


def test_windows_of_a_real_run(pack, inference):
    """The host's own context windows, blended by our Long Sampler; to later ones it adds the frame before."""
    from studio import Studio, first
    from tiny import ltxv

    studio = Studio(pack, first(ltxv.CASES, "image to video"))
    model = pack.nodes.host.model_rules.add_rule(studio.model, Rule("sdpa"))
    node = pack.nodes.long_sampler.VideoAttentionLongSampler
    latent = {"samples": torch.zeros(1, 128, 7, 3, 4)}
    asked = {"method": "blend", "unit": "latent frames", "window": 3.0, "overlap": 1.0}
    out = node.execute(model, **studio.values(node, latent, steps=2, **asked)).args
    said = next(line for line in out[-1].splitlines() if "attention calls" in line)
    assert ", 3 windows of 3 x 3 x 4 and 4 x 3 x 4 tokens (time x height x width), 2 steps: " in said
    assert pack.nodes.host.run_history.find(out[0]["samples"]).windows == 3
