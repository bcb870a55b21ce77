"""A run step by step: which kernel ran in each step and how long it took, in words, as data, as a picture, live."""

from __future__ import annotations

import json

import pytest
from counted_runs import HOST, STEPS, bar_lengths, make_stepped, pixels

from attention.core.canvas import MARGIN, WIDTH
from attention.core.site import CROSS, SELF
from attention.inspect import draw_report
from attention.inspect.kernel_colours import colours_of
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.inspect.timeline import live_text, pace, step_stats_of
from attention.routing.run_stats import RunStats


def test_each_step_has_its_own_calls_and_time():
    laps = step_stats_of(make_stepped(timed=True))
    assert [lap.step for lap in laps] == [1, 2, 3, 4] and [lap.seconds for lap in laps] == [3.0, 2.0, 2.0, 2.0]
    assert laps[0].calls == {(SELF, "sdpa"): 3, (CROSS, HOST): 3}
    assert all(lap.calls == {(SELF, "spatial (folded)"): 3, (CROSS, HOST): 3} for lap in laps[1:])
    assert [lap.attention[CROSS, HOST] for lap in laps] == pytest.approx([0.3, 0.6, 0.9, 1.2])
    report = summarise(make_stepped(timed=True))
    for row in report.rows:
        own = (row.role, row.used)
        assert sum(lap.calls.get(own, 0) for lap in laps) == row.calls
        assert sum(lap.attention.get(own, 0.0) for lap in laps) == pytest.approx(row.seconds)


def test_words():
    assert pace(step_stats_of(make_stepped())) == "Time: 4 steps in 9.00 s: the first 3.00 s, then 2.00 s each."
    assert "; 6.00 s of it in attention, 67%." in to_text(summarise(make_stepped(timed=True)))
    assert pace(step_stats_of(make_stepped(steps=1))) == "Time: 1 steps in 3.00 s."
    assert pace(()) == "" and "Time:" not in to_text(summarise(RunStats()))


def test_a_step_without_an_evaluation_is_not_counted():
    stats = RunStats()
    stats.mark()
    assert stats.marks == [] and step_stats_of(stats) == ()
    stats.begin()
    begun = stats.begun
    stats.begin()
    assert stats.begun == begun


def test_live():
    assert live_text(make_stepped(), 6).splitlines() == [
        "Step 4 of 6, 2.25 s each, 4 s left.",
        f"cross on {HOST}: 12 calls",
        "self on spatial (folded): 9 calls",
        "self on sdpa: 3 calls",
        "fell back from sdpa, cross, 12 calls: broken",
    ]


def test_data_survives_json():
    data = json.loads(json.dumps(summarise(make_stepped(timed=True)).as_dict()))["timeline"]
    assert [step["step"] for step in data] == [1, 2, 3, 4] and data[0]["seconds"] == 3.0
    assert {"role": "self", "used": "sdpa", "calls": 3, "seconds": 0.3} in data[0]["rows"]


def test_picture():
    """Columns as high as the steps took; the first step's kernel is in one column, the others' in three."""
    plain, timed = (draw_report.draw_report(summarise(make_stepped(timed))) for timed in (False, True))
    bare = make_stepped()
    bare.marks.clear()
    # A quarter of the room, less a gap.
    each = (WIDTH - 2 * MARGIN) / 4 - 4
    # What the columns and their words add: beside a picture without.
    high = plain.height - draw_report.draw_report(summarise(bare)).height
    assert high > draw_report.COLUMN
    assert pixels(plain, draw_report.STEP_COLOUR) == pytest.approx(
        4 * each * draw_report.COLUMN * (3 + 2 + 2 + 2) / 12, rel=0.05
    )
    assert pixels(timed, draw_report.STEP_COLOUR) < pixels(plain, draw_report.STEP_COLOUR)
    steps = plain.crop((0, plain.height - high, plain.width, plain.height))
    sdpa, pattern = colours_of(("sdpa", "spatial (folded)")).values()
    once, thrice = bar_lengths(steps, (sdpa, pattern))
    assert once == pytest.approx(each / 2, abs=2) and thrice == pytest.approx(3 * each / 2, abs=6)


class Wire:
    """A server with one page, or none."""

    def __init__(self, client_id="page"):
        self.sent, self.client_id, self.last_node_id = [], client_id, "7"

    def send_sync(self, event, data, sid):
        self.sent.append((event, data, sid))


@pytest.fixture
def wire(pack, monkeypatch):
    live, found = pack.nodes.host.live_report, Wire()
    monkeypatch.setattr(live.PromptServer, "instance", found, raising=False)
    return found


def test_a_run_is_told_while_it_goes_on(lab, wire, monkeypatch):
    monkeypatch.setattr(lab.pack.nodes.host.live_report, "APART", 0.0)
    seen = []
    latent = lab.sample(lab.backend(), callback=lambda step, x0, x, total: seen.append((step, total)))
    assert seen == [(step, STEPS) for step in range(STEPS)]
    assert {(event, data["node"], sid) for event, data, sid in wire.sent} == {("video_attention.progress", "7", "page")}
    *texts, last = [data["text"] for _, data, _ in wire.sent]
    assert last.splitlines()[1:3] == [
        "LTXVModel, 2 x 3 x 4 tokens (time x height x width), 4 steps: 16 attention calls.",
        "Backend sdpa: 16 of 16 attention calls.",
    ]
    assert [text.split(",")[0] for text in texts] == [f"Step {step} of 4" for step in range(1, 5)]
    assert "self on sdpa: 2 calls" in texts[0] and "self on sdpa: 8 calls" in texts[3]
    laps = lab.report(latent).timeline
    assert len(laps) == STEPS and all(lap.calls == {("self", "sdpa"): 2, ("cross", "sdpa"): 2} for lap in laps)
    assert all(lap.seconds > 0 for lap in laps)


def test_messages_are_kept_apart_but_the_last(lab, wire, monkeypatch):
    monkeypatch.setattr(lab.pack.nodes.host.live_report, "APART", 1000.0)
    lab.sample(lab.backend())
    texts = [data["text"].split(",")[0] for _, data, _ in wire.sent]
    assert texts[:-1] == ["Step 1 of 4", "Step 4 of 4"]


@pytest.mark.parametrize("step, said", [(1, "Cancelled after step 2 of 4."), (0, "Cancelled after step 1 of 4.")])
def test_a_cancelled_run_says_so(step, said, lab, wire):
    from comfy.model_management import InterruptProcessingException

    def cancel(at, *_):
        if at == step:
            raise InterruptProcessingException

    with pytest.raises(InterruptProcessingException):
        lab.sample(lab.backend(), callback=cancel)
    assert wire.sent[-1][1]["text"] == said


def test_a_run_that_fails_says_so(lab, wire):
    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lab.sample(lab.backend(), callback=fail)
    assert wire.sent[-1][1]["text"] == "Stopped by an error after step 1 of 4."


def test_a_measurement_tells_no_result(lab, wire):
    """Calibrate and Verify sample for themselves: what they find is theirs to tell."""
    with lab.pack.nodes.host.run_history.aside():
        lab.sample(lab.backend())
    assert all(data["text"].startswith("Step ") for _, data, _ in wire.sent)


def test_nobody_is_told_without_a_page(lab, wire, monkeypatch):
    wire.client_id = None
    lab.sample(lab.backend())
    assert wire.sent == []


def test_a_model_without_our_nodes_tells_nothing(lab, wire):
    lab.sample()
    lab.sample(lab.clear(lab.backend()))
    assert wire.sent == []


def test_the_report_node_gives_json_and_keeps_it_for_scripts(lab):
    node = lab.pack.nodes.report.VideoAttentionReport
    latent = {"samples": lab.sample(lab.backend(timing=True))}
    output = node.execute(latent)
    found = dict(zip([part.id for part in node.GET_SCHEMA().outputs], output.args))
    data = json.loads(found["json"])
    assert output.ui["report"] == (data,) and output.ui["text"] == (found["report"],)
    assert len(data["timeline"]) == STEPS and data["calls"] == 16
    assert "Time: 4 steps in" in found["report"] and "in attention" in found["report"]
    assert node.execute({"samples": latent["samples"] + 1}).args[3] == ""
