"""What is told of a run: to the nodes of its rules, kept in the history; of a sampler without us, a baseline."""

from __future__ import annotations

import re

import pytest
from prompts import CALLS, backend, prompt, report, sampler


def test_the_nodes_of_the_rules_learn_what_came_of_them(queue):
    """Each its own: what its rule did, behind how much faster the run was."""
    chain = prompt(
        more=backend("backend", "sdpa math", role="cross"), sampler=sampler("more"), report=report("sampler")
    )  # fmt: skip
    queue.run(chain)
    told = [data for event, data in queue.sent if event == "video_attention.progress"]
    last = {node: data["text"] for data in told for node in data["reports"] if not data["text"].startswith("Step ")}
    assert set(last) == {"backend", "more", "report"}
    answer = "Not timed: turn timing on in "
    assert all(text.startswith(answer) for text in last.values())
    assert last["backend"].endswith(f"Backend sdpa: {CALLS} of {CALLS} attention calls.")
    assert last["more"].endswith(f"Backend sdpa math: {CALLS} of {CALLS} cross-attention calls.")
    assert last["report"].startswith("Not timed: turn timing on in Video Attention Backend to see ")
    # A page that is loaded again finds the same in the server's history, where the others' outputs are.
    *_, extra, _ = queue.history["prompt"]
    assert extra["video_attention"] == {"backend": last["backend"], "more": last["more"]}
    assert queue.history["outputs"]["report"]["text"]


def test_a_run_that_was_kept_tells_nothing_anew(queue):
    chain = prompt(sampler=sampler("backend"), report=report())
    queue.run(chain)
    assert "video_attention" in queue.history["prompt"][3]
    queue.run(chain)
    assert "video_attention" not in queue.history["prompt"][3]


@pytest.mark.parametrize("found", [None, {1: ("number", "another prompt")}, {1: (0, "id", {}, None)}])
def test_a_queue_that_is_built_otherwise_is_left_alone(pack, monkeypatch, found):
    from types import SimpleNamespace

    told = pack.nodes.host.told_lines
    waits = None if found is None else SimpleNamespace(currently_running=found)
    monkeypatch.setattr(told.PromptServer, "instance", SimpleNamespace(prompt_queue=waits), raising=False)
    monkeypatch.setattr(told, "get_executing_context", lambda: SimpleNamespace(prompt_id="id"))
    told.keep("1", "text")


def test_a_sampler_without_us_is_a_baseline(queue):
    """As if Backend were bypassed: how long it took, and how to learn more."""
    text = queue.report(prompt(sampler=sampler("model"), report=report()))
    assert re.match(r"Without Video Attention: \d+\.\d\d s (for 2 steps, \d+\.\d\d s each|with loading)\. ", text)
    assert "StandInSampler: not counted" in text and "to compare: with `auto`" in text


def test_seconds_are_of_the_steps_alone(pack, monkeypatch):
    """Not of what loading took before the first; of the last bar of a node that has several."""
    clock, now = pack.nodes.host.sampler_clock, iter([0.0, 9.0, 10.0, 11.5, 12.0, 20.0])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(now))
    made = clock._Clock()
    made.start_handler("5", {}, "id")
    made.update_handler("5", 7, 9, {}, "id")
    made.update_handler("5", 1, 4, {}, "id")
    assert made.nodes["5"].words() == ""
    made.update_handler("5", 4, 4, {}, "id")
    assert made.nodes["5"].words() == "2.00 s for 4 steps, 0.50 s each"
    made.start_handler("6", {}, "id")
    made.finish_handler("6", {}, "id")
    assert made.nodes["6"].words() == "8.00 s with loading"
    # The host tells of a node whose result it kept that it finished, without that it started.
    made.finish_handler("7", {}, "id")
    assert "7" not in made.nodes
