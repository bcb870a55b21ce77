"""What a report says in words, as data and as a picture."""

from __future__ import annotations

import json

import pytest
import torch
from counted_runs import HOST, add, bar_lengths, call, make_stats, pixels

from attention.backends import registry
from attention.backends.autotune import AutotuneResult, KernelTrial
from attention.core.canvas import MARGIN, NEUTRAL, PAPER, WIDTH
from attention.core.site import CROSS, SELF
from attention.core.timing import elapsed, end_span, start_span
from attention.inspect import draw_report
from attention.inspect.kernel_colours import colours_of
from attention.inspect.report import summarise
from attention.inspect.report_text import headline, to_text
from attention.routing.reused_calls import REUSED
from attention.routing.run_stats import RunStats


def test_words():
    text = to_text(summarise(make_stats()))
    lines = text.splitlines()
    assert lines[:3] == [
        "Not timed: turn timing on in a Video Attention Backend before the sampler to see how much faster sdpa is.",
        "LTXVModel, 4 x 8 x 16 tokens (time x height x width), 20 steps: 320 attention calls.",
        "Backend sdpa: 281 of 320 attention calls (RuntimeError: broken).",
    ]
    lines = lines[2:]
    assert [line.split() for line in lines[2:6]] == [
        ["role", "ran", "on", "calls", "blocks", "tokens"],
        ["self", "sdpa", "160", "0-3", "512x512"],
        ["cross", "sdpa", "120", "0-1,3", "512x77"],
        ["cross", *HOST.split(), "40", "2", "512x77"],
    ]
    assert lines[6:] == ["", "Fell back:", "  39 calls, cross-attention, sdpa: RuntimeError: broken"]
    starts = {line.index("sdpa") for line in lines[3:5]} | {lines[2].index("ran on"), lines[5].index(HOST)}
    assert len(starts) == 1, "the columns are not aligned"


def test_words_of_an_empty_run():
    assert to_text(summarise(RunStats())) == "model: no attention call was seen."
    assert headline(summarise(RunStats("WanModel"))) == "WanModel: no attention call was seen."


def test_words_of_what_is_unknown():
    stats = RunStats("SomeModel", None, 4)
    for length in (10, 20, 30, 40):
        add(stats, SELF, None, "sdpa", 1, of=call(length, length))
    text = to_text(summarise(stats))
    assert "SomeModel, 4 steps: 4 attention calls." in text and "unknown" in text and "10x10, 20x20, 30x30, ..." in text
    assert "40x40" not in text


def test_a_call_without_geometry_is_counted():
    stats = RunStats()
    decision = add(stats, SELF, None, HOST, 2, reason="tensors of 5 axes and 8 heads", fell_back=2)
    decision.geometry = None
    report = summarise(stats)
    assert report.calls == 2 and report.ruled == 0 and "tensors of 5 axes" in to_text(report)
    json.dumps(report.as_dict())


def test_notes_are_last():
    stats = make_stats()
    stats.notes.append("Something to know.")
    assert to_text(summarise(stats)).splitlines()[-2:] == ["", "Something to know."]


@pytest.mark.parametrize("wanted", [None, registry.HOST])
def test_calls_without_a_chosen_backend_do_not_count_as_chosen(wanted):
    stats = RunStats()
    add(stats, SELF, 0, HOST, 5, wanted=wanted)
    add(stats, SELF, 1, "sdpa", 3)
    report = summarise(stats)
    assert (report.calls, report.ruled, report.fallbacks.total()) == (8, 3, 0)


def test_time():
    report = summarise(make_stats(timed=True))
    shares = [row.seconds / report.seconds for row in report.rows]
    assert sum(shares) == pytest.approx(1) and report.seconds == pytest.approx(1.6)
    assert shares == pytest.approx([0.75, 0.1875, 0.0625])
    text = to_text(report)
    assert "1.20 s, 75%" in text and "0.30 s, 19%" in text and "0.10 s, 6%" in text
    table = to_text(summarise(make_stats())).splitlines()
    assert "time" not in next(line for line in table if line.startswith("role"))


def test_a_stopwatch_on_the_cpu():
    device = torch.device("cpu")
    begin = start_span(device)
    sum(range(1000))
    assert 0 < elapsed(end_span(begin, device)) < 10


def test_what_auto_did():
    stats = make_stats()
    out = KernelTrial("sage", error=0.28, reason="error 0.28 is above 0.02")
    trials = (KernelTrial("host", 0.0021), KernelTrial("sdpa", 0.001, 3e-7), out)
    add(
        stats, SELF, 0, "sdpa", 10, wanted="auto", choice=AutotuneResult("sdpa", trials, 0.5),
        passed_over={"sage 3 fp4": "needs cuda", "sdpa cudnn": "needs cuda", "xformers": "is missing"},
    )  # fmt: skip
    stats.choosing = 0.5
    report = summarise(stats)
    (line,) = report.measured
    assert line == ("self 512x512: sdpa 1.00 ms error 3e-07, host 2.10 ms, sage error 0.28 is above 0.02 -> sdpa")
    text = to_text(report)
    assert "Measured by auto (0.50 s in this run):" in text and line in text
    assert "Not open to auto: sage 3 fp4, sdpa cudnn, xformers; the JSON output says why." in text.splitlines()
    reasons = {row["backend"]: row["reason"] for row in report.as_dict()["passed_over"]}
    assert reasons == {"sage 3 fp4": "needs cuda", "sdpa cudnn": "needs cuda", "xformers": "is missing"}
    assert report.passed_over["xformers", "is missing"] == 10
    assert report.as_dict()["choosing_seconds"] == 0.5


def test_data_survives_json():
    report = summarise(make_stats(timed=True))
    data = json.loads(json.dumps(report.as_dict()))
    assert data == report.as_dict()
    assert (data["model"], data["grid"], data["steps"]) == ("LTXVModel", [4, 8, 16], 20)
    assert (data["calls"], data["calls_on_chosen_backend"]) == (320, 281)
    assert data["fallbacks"] == [{"role": CROSS, "wanted": "sdpa", "reason": "RuntimeError: broken", "calls": 39}]
    assert sum(row["calls"] for row in data["rows"]) == data["calls"]
    assert sum(row["seconds"] for row in data["rows"]) == pytest.approx(data["seconds"])
    assert data["rows"][1]["blocks"] == "0-1,3"


# Between the margins of a picture.
ROOM = WIDTH - 2 * MARGIN


def test_picture_shows_the_shares():
    stats = RunStats("LTXVModel", (4, 8, 16), 20)
    add(stats, SELF, 0, "sdpa", 75)
    add(stats, CROSS, 0, HOST, 25, reason="broken", fell_back=25)
    picture = draw_report.draw_report(summarise(stats))
    assert picture.mode == "RGB" and picture.width == WIDTH
    sdpa = colours_of(["sdpa"])["sdpa"]
    lengths = bar_lengths(picture, (sdpa, NEUTRAL))
    assert lengths == pytest.approx([0.75 * ROOM, 0.25 * ROOM], abs=2)
    assert pixels(picture, sdpa) > 2 * pixels(picture, NEUTRAL) > 0


def test_picture_shows_time_when_timed():
    stats = RunStats()
    add(stats, SELF, 0, "sdpa", 10, seconds=[0.9])
    add(stats, CROSS, 0, HOST, 90, seconds=[0.1])
    sdpa = colours_of(["sdpa"])["sdpa"]
    picture = draw_report.draw_report(summarise(stats))
    assert bar_lengths(picture, (sdpa, NEUTRAL)) == pytest.approx([0.9 * ROOM, 0.1 * ROOM], abs=2)


def test_picture_grows_with_its_rows():
    stats, heights = RunStats(), []
    for index, name in enumerate(("sdpa", "sdpa math", "reference")):
        add(stats, SELF, index, name, 1)
        heights.append(draw_report.draw_report(summarise(stats)).height)
    steps = {b - a for a, b in zip(heights, heights[1:])}
    assert len(steps) == 1 and steps.pop() > 20
    add(stats, CROSS, 0, "reference", 1, wanted="sage", reason="a reason", fell_back=1)
    assert draw_report.draw_report(summarise(stats)).height > heights[-1] + 20


def test_picture_of_an_empty_run():
    picture = draw_report.draw_report(summarise(RunStats()))
    assert picture.mode == "RGB" and pixels(picture, PAPER) < picture.width * picture.height


@pytest.mark.parametrize(
    "used",
    [*registry.names(), HOST, "other override (their_node)", "ComfyUI-KJNodes", "ComfyUI's Model Sparse Attention"],
)
def test_every_bar_has_its_colour(used):
    stats = RunStats()
    add(stats, SELF, 0, used, 1)
    colour = colours_of([used])[used] if used in registry.names() else NEUTRAL
    assert pixels(draw_report.draw_report(summarise(stats)), colour) > 5000


def test_long_reasons_stay_inside_the_picture():
    stats = RunStats()
    add(stats, SELF, 0, HOST, 1, reason="a very long reason " * 20, fell_back=1)
    picture = draw_report.draw_report(summarise(stats))
    margin = picture.crop((picture.width - 8, 60, picture.width, picture.height))
    assert margin.getcolors() == [(margin.width * margin.height, PAPER)]


def test_kept_outputs_have_a_colour_of_their_own():
    stats = make_stats()
    add(stats, SELF, 0, REUSED, 40, wanted="reuse every 2 steps")
    (colour,) = {colour for (_, used), colour in draw_report._colours(summarise(stats)).items() if used == REUSED}
    assert colour != NEUTRAL and pixels(draw_report.draw_report(summarise(stats)), colour) > 1000
