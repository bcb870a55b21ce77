"""Samplers one after the other on one latent, in ComfyUI's own executor: one report, each by itself and in total."""

from __future__ import annotations

import re

import pytest
from prompts import CALLS, backend, counted, node, prompt, report, runs, sampler


def alone(text: str) -> list[str]:
    """What a report says of each of several samplers, one after the other."""
    return [line.strip() for line in text.splitlines() if re.match(r" +\d+\. ", line)]


def whole(text: str) -> str:
    """The report without that."""
    return "\n".join(line for line in text.splitlines() if line.strip() not in alone(text))


def test_two_samplers_in_a_row_are_one_report(queue):
    """In their order, each by itself and with a total; a Report behind the first one speaks of that alone."""
    stages = prompt(
        math=backend(name="sdpa math"), one=sampler("backend"), sampler=sampler("math", "one"), report=report(),
        first=report("one"),
    )  # fmt: skip
    shown = queue.run(stages)
    texts = {key: shown[key]["text"][0] for key in ("report", "first")}
    both, first = texts["report"], texts["first"]
    assert counted(whole(both)) == (4 * CALLS, 4 * CALLS) and runs(both) == 2 and "4 steps" in whole(both)
    assert "sdpa math" in whole(both) and "Time: 4 steps" in whole(both)
    assert "All of it together is of these samplers, one after the other:" in both
    one, two = alone(both)
    assert one.startswith("1. StandInSampler (node one): ") and two.startswith("2. StandInSampler (node sampler): ")
    assert [counted(line) for line in (one, two)] == [(2 * CALLS, 2 * CALLS)] * 2
    assert "sdpa math" not in one and "sdpa math" in two and "Time: 2 steps" in one and "Time: 2 steps" in two
    assert counted(first) == (2 * CALLS, 2 * CALLS) and "sdpa math" not in first and not alone(first)
    data = shown["report"]["report"][0]
    assert (data["runs"], data["steps"], data["calls"]) == (2, 4, 4 * CALLS) and data["stages"] == [one, two]
    # Live, the Report behind both shows both.
    told = {node: set(reports) for node, reports in queue.told()}
    assert told == {"one": {"first", "report"}, "sampler": {"report"}}
    # Only the second one runs again: the first is that of the prompt before.
    text = queue.report({**stages, "sampler": sampler("math", "one", seed=5)})
    assert queue.told() == [("sampler", ("report",))] and counted(whole(text)) == (4 * CALLS, 4 * CALLS)
    # The last one alone loses its node: neither the first stage's report nor that of the prompt before.
    text = queue.report({**stages, "sampler": sampler("model", "one")})
    assert "StandInSampler (node sampler): not counted" in text and "sdpa" not in text
    assert queue.told() == []
    # The first one alone does: it is told beside the second's.
    text = queue.report({**stages, "one": sampler("model")})
    assert "StandInSampler (node one): not counted" in text and counted(text) == (2 * CALLS, 2 * CALLS)
    assert "sdpa math" in text and runs(text) == 1 and not alone(text)


def test_a_chain_of_samplers_with_nodes_between(queue):
    """Three, the last two cut into windows; what lies between only passes the latent on."""
    chain = prompt(
        frames=6, one=sampler("backend"), a=node("StandInTrim", samples=["one", 0]),
        two=sampler("backend", "a", windows=2), b=node("StandInTrim", samples=["two", 0]),
        sampler=sampler("backend", "b", windows=2), report=report(),
    )  # fmt: skip
    text = queue.report(chain)
    assert runs(text) == 5 and counted(whole(text)) == (10 * CALLS, 10 * CALLS)
    assert [re.search(r"\(node (\w+)\)", line)[1] for line in alone(text)] == ["one", "two", "sampler"]
    assert [counted(line)[0] for line in alone(text)] == [2 * CALLS, 4 * CALLS, 4 * CALLS]
    assert {reports for _, reports in queue.told()} == {("report",)}
    # Of which the middle one is not counted: the others are there.
    text = queue.report({**chain, "two": sampler("model", "a", windows=2)})
    assert "StandInSampler (node two): not counted" in text and runs(text) == 3
    assert [counted(line)[0] for line in alone(text)] == [2 * CALLS, 4 * CALLS]


def test_a_split_sampling_is_one_report(queue):
    """ComfyUI's own node, twice, as for a model of two experts; the picture has all its steps."""
    given = {"noise_seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple",
             "positive": ["prompt", 0], "negative": ["prompt", 1]}  # fmt: skip
    high = node("KSamplerAdvanced", model=["backend", 0], latent_image=["latent", 0], **given, add_noise="enable",
                start_at_step=0, end_at_step=1, return_with_leftover_noise="enable")  # fmt: skip
    low = node("KSamplerAdvanced", model=["math", 0], latent_image=["high", 0], **given, add_noise="disable",
               start_at_step=1, end_at_step=4, return_with_leftover_noise="disable")  # fmt: skip
    shown = queue.run(prompt(math=backend(name="sdpa math"), high=high, low=low, report=report("low")))["report"]
    text, data = shown["text"][0], shown["report"][0]
    assert counted(whole(text)) == (4 * CALLS, 4 * CALLS) and "2 runs, 4 steps" in text
    one, two = alone(text)
    assert "KSamplerAdvanced (node high)" in one and "KSamplerAdvanced (node low)" in two
    assert counted(one) == (CALLS, CALLS) and counted(two) == (3 * CALLS, 3 * CALLS)
    assert len(data["timeline"]) == 4 and [row["used"] for row in data["rows"]].count("sdpa math") == 2


def test_a_chain_behind_a_switch_is_that_of_the_chosen_one(queue):
    """Both ran; the latent tells which one it is of."""
    switch = node("StandInSwitch", first=["two", 0], second=["other", 0], which=0)
    nodes = prompt(
        math=backend(name="sdpa math"), one=sampler("backend"), two=sampler("backend", "one", seed=2),
        before=sampler("math", seed=3), other=sampler("math", "before", seed=4), switch=switch,
        report=report("switch"), seen=report("other"),
    )  # fmt: skip
    text = queue.report(nodes)
    assert len(alone(text)) == 2 and "sdpa math" not in text and counted(whole(text)) == (4 * CALLS, 4 * CALLS)


def test_of_a_list_each_entry_has_its_chain(queue):
    shown = queue.run(prompt(count=2, one=sampler("backend"), sampler=sampler("backend", "one"), report=report()))
    for text in shown["report"]["text"]:
        assert counted(whole(text)) == (4 * CALLS, 4 * CALLS) and len(alone(text)) == 2


@pytest.mark.parametrize("limit", ["EXECUTIONS", "MOST"])
def test_a_stage_that_is_kept_outlasts_many_seeds_of_the_next(queue, pack, monkeypatch, limit):
    """ComfyUI keeps stage one's result as long as nothing before it changes."""
    history = pack.nodes.host.run_history
    monkeypatch.setattr(history, limit, 3)
    for seed in range(6):
        text = queue.report(
            prompt(one=sampler("backend"), sampler=sampler("backend", "one", seed=10 + seed), report=report())
        )
        assert counted(whole(text)) == (4 * CALLS, 4 * CALLS) and len(alone(text)) == 2 and "not counted" not in text
        assert {name for name, _ in queue.told()} == ({"sampler"} if seed else {"one", "sampler"})
    assert len(history.known()) == 3 and [run.node for run in history.known()] == ["one", "sampler", "sampler"]


def test_a_stage_that_is_no_longer_remembered_is_told_so(queue, pack, monkeypatch):
    monkeypatch.setattr(pack.nodes.host.run_history, "EXECUTIONS", 1)
    stages = prompt(one=sampler("backend"), sampler=sampler("backend", "one"), report=report())
    text = queue.report(stages)
    assert "StandInSampler (node one): not counted" in text and "prompt that is no longer remembered" in text
    assert counted(text) == (2 * CALLS, 2 * CALLS)


@pytest.mark.parametrize("first", ["two", "one"])
@pytest.mark.parametrize("last", ["sampler", "mix"])
def test_samplers_stand_in_the_order_in_which_they_ran(queue, first, last):
    """`one` is reached past `two` as well as at once, in either order; `last` may be the mix of both itself."""
    second = {"two": "one", "one": "two"}[first]
    nodes = prompt(
        zero=sampler("backend", seed=4), one=sampler("backend", "zero"), two=sampler("backend", "one", seed=2),
        mix=node("LatentBlend", samples1=[first, 0], samples2=[second, 0], blend_factor=0.5),
        sampler=sampler("backend", "mix", seed=3), report=report(last),
    )  # fmt: skip
    text = queue.report(nodes)
    expected = ["zero", "one", "two", "sampler"][: 4 if last == "sampler" else 3]
    assert [re.search(r"\(node (\w+)\)", line)[1] for line in alone(text)] == expected
    assert counted(whole(text)) == (len(expected) * 2 * CALLS,) * 2
