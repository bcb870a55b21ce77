"""Whose run a report speaks of: followed through prompts in ComfyUI's own executor, and by the latent alone."""

from __future__ import annotations

import importlib

import prompts
import pytest
import torch
from prompts import CALLS, backend, counted, node, prompt, report, runs, sampler


def test_one_run(queue):
    text = queue.report(prompt(sampler=sampler("backend"), report=report()))
    assert counted(text) == (2 * CALLS, 2 * CALLS) and runs(text) == 1 and "Sampler: not" not in text
    assert queue.told() == [("sampler", ("report",))]


@pytest.mark.parametrize("cut, count", [({"windows": 3}, 3), ({"parts": 2}, 2), ({"windows": 2, "parts": 2}, 4)])
def test_all_runs_of_a_node_are_one_report(queue, cut, count):
    text = queue.report(prompt(frames=6, sampler=sampler("backend", **cut), report=report()))
    assert counted(text) == (2 * CALLS * count,) * 2 and runs(text) == count
    assert f"{2 * count} steps" in text and f"Time: {2 * count} steps" in text


def test_a_kept_result_has_the_run_that_gave_it(queue):
    first = prompt(frames=4, sampler=sampler("backend", windows=2), report=report())
    text = queue.report(first)
    # Another Report on the same sampler: ComfyUI keeps the latent and runs the Report alone.
    again = queue.report({**first, "other": report()}, "other")
    assert queue.told() == [] and again == text and runs(again) == 2
    # The same nodes pasted under other names: ComfyUI keeps the latent there too.
    pasted = {key: value for key, value in first.items() if key not in ("sampler", "report")}
    moved = queue.report({**pasted, "99": first["sampler"], "98": report("99")}, "98")
    assert queue.told() == [] and moved == text


def test_a_kept_result_of_two_prompts_ago(pack, tiny_ltxv, monkeypatch):
    queue = prompts.Queue(pack, tiny_ltxv, monkeypatch, kind="LRU", lru=100)
    one = prompt(sampler=sampler("backend"), report=report())
    two = {**one, "backend": backend(name="sdpa math")}
    assert "sdpa math" not in queue.report(one) and "sdpa math" in queue.report(two)
    text = queue.report({**one, "other": report()}, "other")
    assert queue.told() == [] and "sdpa" in text and "sdpa math" not in text


def test_a_bypassed_backend_is_not_counted(queue):
    patched = prompt(sampler=sampler("backend"), report=report())
    assert counted(queue.report(patched)) == (2 * CALLS, 2 * CALLS)
    text = queue.report({**patched, "sampler": sampler("model")})
    assert "StandInSampler: not counted" in text and "attention calls" not in text
    assert queue.run({**patched, "sampler": sampler("model")})["report"].get("report") is None
    # And back again.
    assert counted(queue.report({**patched, "sampler": sampler("backend", seed=2)})) == (2 * CALLS, 2 * CALLS)


def test_a_node_that_put_nothing_on_the_model_is_said(queue):
    off = node("VideoAttentionForecast", model=["model", 0], enabled=False, first_steps=1, last_steps=1)
    assert "put nothing on it" in queue.report(prompt(off=off, sampler=sampler("off"), report=report()))


def test_another_prompt_with_the_same_names_is_another_run(queue):
    queue.report(prompt(sampler=sampler("backend"), report=report()))
    text = queue.report(prompt(backend=backend(name="sdpa math"), sampler=sampler("backend"), report=report()))
    assert "sdpa math" in text and counted(text) == (2 * CALLS, 2 * CALLS)


def test_the_latent_is_followed_through_what_changes_it(queue):
    chain = prompt(
        frames=3, sampler=sampler("backend"), a=node("StandInTrim", samples=["sampler", 0]),
        b=node("StandInTrim", samples=["a", 0]), report=report("b"),
    )  # fmt: skip
    text = queue.report(chain)
    assert counted(text) == (2 * CALLS, 2 * CALLS) and text.endswith("Of StandInSampler.")
    assert queue.told() == [("sampler", ("report",))]


def test_the_latent_is_followed_through_the_host_s_own_nodes(queue, monkeypatch):
    """What ComfyUI's templates put between sampler and decoder; the clip is smaller than a frame of a real one."""
    # First, and not sorted among the others: it imports nodes_latent, which imports it.
    importlib.import_module("comfy_extras.nodes_post_processing")
    from comfy_extras import nodes_latent, nodes_lt, nodes_wan

    import nodes

    for topic, name in ((nodes_wan, "TrimVideoLatent"), (nodes_latent, "LatentCut"), (nodes_lt, "LTXVCropGuides")):
        monkeypatch.setitem(nodes.NODE_CLASS_MAPPINGS, name, getattr(topic, name))
    chain = prompt(
        frames=4, sampler=sampler("backend", windows=2),
        trim=node("TrimVideoLatent", samples=["sampler", 0], trim_amount=1),
        cut=node("LatentCut", samples=["trim", 0], dim="t", index=0, amount=2),
        crop=node("LTXVCropGuides", positive=["prompt", 0], negative=["prompt", 1], latent=["cut", 0]),
        masked=node("SetLatentNoiseMask", samples=["crop", 2], mask=["mask", 0]),
        mask=node("StandInMask"), report=report("masked"),
    )  # fmt: skip
    text = queue.report(chain)
    assert counted(text) == (4 * CALLS, 4 * CALLS) and runs(text) == 2
    assert text.endswith("Of StandInSampler.") and queue.told() == [("sampler", ("report",))]


def test_two_samplers_in_one_latent(queue):
    both = prompt(
        frames=2, math=backend(name="sdpa math"), sampler=sampler("backend"), other=sampler("math", seed=2),
        a=node("StandInTrim", samples=["sampler", 0], other=["other", 0]), report=report("a"),
    )  # fmt: skip
    text = queue.report(both)
    assert counted(text) == (4 * CALLS, 4 * CALLS) and runs(text) == 2 and "sdpa math" in text
    assert "Of StandInSampler (node sampler) and StandInSampler (node other)." in text
    text = queue.report({**both, "other": sampler("model", seed=2)})
    assert counted(text) == (2 * CALLS, 2 * CALLS) and "node other): not counted" in text


def test_a_switch_has_the_run_of_what_was_chosen(queue):
    def chosen(which):
        switch = node("StandInSwitch", first=["sampler", 0], second=["other", 0], which=which)
        return prompt(
            math=backend(name="sdpa math"), sampler=sampler("backend"), other=sampler("math"), switch=switch,
            report=report("switch"),
        )  # fmt: skip

    first, second = queue.report(chosen(0)), queue.report(chosen(1))
    assert "sdpa math" not in first and "sdpa math" in second
    assert counted(first) == counted(second) == (2 * CALLS, 2 * CALLS)
    again = queue.report({**chosen(1), "more": report("switch")}, "more")
    assert queue.told() == [] and again == second


def test_a_node_that_expands(queue):
    group = sampler("backend", seed=10, kind="StandInGroup", turns=3)
    nodes = prompt(group=group, report=report("group"))
    text = queue.report(nodes)
    assert counted(text) == (6 * CALLS, 6 * CALLS) and runs(text) == 3
    assert {reports for _, reports in queue.told()} == {("report",)}
    # Kept by the cache as one result.
    again = queue.report({**nodes, "other": report("group")}, "other")
    assert queue.told() == [] and again == text


def test_turns_of_a_loop(queue):
    """The first turn is the user's own node, of which the others are copies; a Report among them has one turn each."""
    loop = node("StandInLoop", value=["sampler", 0], turns=3, body="sampler", report="inside")
    nodes = prompt(sampler=sampler("backend"), inside=report(), loop=loop, report=report("loop"))
    shown = queue.run(nodes)
    text = shown["report"]["text"][0]
    assert counted(text) == (6 * CALLS, 6 * CALLS) and runs(text) == 3
    turns = [output["text"][0] for key, output in shown.items() if key != "report" and output.get("report")]
    assert [(counted(turn), runs(turn)) for turn in turns] == [((2 * CALLS, 2 * CALLS), 1)] * 3
    assert all("report" in reports and "inside" in reports for _, reports in queue.told())
    again = queue.report({**nodes, "other": report("loop")}, "other")
    assert queue.told() == [] and counted(again) == counted(text)


def test_a_loop_without_our_node_is_not_counted(queue):
    loop = sampler("model", kind="StandInGroup", turns=2)
    text = queue.report(prompt(loop=loop, report=report("loop")))
    assert "StandInGroup: not counted" in text


def test_each_entry_of_a_list_has_its_run(queue):
    shown = queue.run(prompt(count=3, sampler=sampler("backend"), report=report()))["report"]
    assert [(counted(text), runs(text)) for text in shown["text"]] == [((2 * CALLS, 2 * CALLS), 1)] * 3


def test_no_sampler_at_all(queue, pack):
    text = queue.report(prompt(report=report("latent")))
    assert text == pack.nodes.report.UNKNOWN


@pytest.mark.parametrize("name", ["sampler", "model"])
def test_our_samplers_speak_of_their_own_run(queue, name):
    """The same latent with and without our node on the model: no older run is told."""

    def run(model):
        widgets = {
            "seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "simple", "denoise": 1.0,
        }  # fmt: skip
        links = {"positive": ["prompt", 0], "negative": ["prompt", 1], "latent": ["latent", 0]}
        ours = node("VideoAttentionSampler", model=[model, 0], **links, **widgets)
        shown = queue.run(prompt(sampler=ours, report=report()))
        return shown["sampler"]["text"][0], shown["report"]["text"][0]

    own, told = run("backend")
    assert counted(own) == counted(told) == (2 * CALLS, 2 * CALLS)
    own, told = run("model")
    assert "attention calls" not in own and "not counted" in told


def test_an_extended_clip_is_one_report(queue):
    def run(model):
        widgets = {
            "seed": 7, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "simple", "denoise": 1.0,
            "method": "extend", "unit": "latent frames", "window": 4.0, "overlap": 1.0, "frame_rate": 24.0,
            "free_noise": True, "keep": True,
        }  # fmt: skip
        links = {"positive": ["prompt", 0], "negative": ["prompt", 1], "latent": ["latent", 0]}
        ours = node("VideoAttentionLongSampler", model=[model, 0], **links, **widgets)
        shown = queue.run(prompt(frames=7, sampler=ours, report=report()))
        return shown["sampler"]["text"][0], shown["report"]["text"][0]

    own, told = run("backend")
    assert runs(own) == runs(told) == 2 and counted(own) == counted(told) == (4 * CALLS, 4 * CALLS)
    own, told = run("model")
    assert "attention calls" not in own and "not counted" in told


def test_verify_has_a_run_for_the_model_as_it_is_alone(queue):
    widgets = {"seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "simple"}
    links = {"positive": ["prompt", 0], "negative": ["prompt", 1], "latent": ["latent", 0]}
    verify = node("VideoAttentionVerify", model=["backend", 0], **links, **widgets)
    exact, planned = report("verify"), node("VideoAttentionReport", latent=["verify", 1])
    shown = queue.run(prompt(verify=verify, exact=exact, planned=planned))
    assert counted(shown["planned"]["text"][0]) == (2 * CALLS, 2 * CALLS)
    assert "not counted" in shown["exact"]["text"][0]


def test_only_what_carries_a_latent_is_a_latent(pack):
    from comfy_execution.graph import DynamicPrompt

    graph = pack.nodes.host.workflow_graph.Graph(
        DynamicPrompt({
            "loader": {"class_type": "UNETLoader", "inputs": {}},
            "empty": {"class_type": "EmptyLatentImage", "inputs": {}},
            "sampler": {"class_type": "KSampler", "inputs": {"model": ["loader", 0], "latent_image": ["empty", 0]}},
        })
    )  # fmt: skip
    assert graph.latents("sampler") == [("empty", 0)] and graph.latents("loader") == []
    assert graph.kind("sampler", "model", "loader", 0) == "MODEL"
    # Of a class that is not installed, or an input that it does not declare, the source tells.
    assert graph.kind("gone", "x", "empty", 0) == graph.kind("sampler", "extra", "empty", 0) == "LATENT"
    assert graph.kind("gone", "x", "gone", 0) == graph.kind("gone", "x", "empty", 9) == "*"


@pytest.mark.parametrize(
    ("value", "link"),
    [
        (["5", 0], True), ([5, 1], True), ([0.5, 1], False), (["5", 0.5], False), (["5", "0"], False), (["5"], False),
        (["5", 0, 0], False), (("5", 0), False), ("50", False), ([[1], 0], False), ([None, 0], False),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_a_link_and_what_a_widget_s_list(pack, value, link):
    from comfy_execution.graph import DynamicPrompt

    graph = pack.nodes.host.workflow_graph.Graph(DynamicPrompt({"a": {"class_type": "A", "inputs": {"x": value}}}))
    assert graph.links("a") == ([("x", str(value[0]), value[1])] if link else [])


@pytest.mark.parametrize("entries", [2, 3])
def test_of_a_list_the_entry_that_gave_the_latent(pack, entries):
    """The runs of a node that worked through a list: those of one entry, all where the latent is no entry's."""
    history, latents = pack.nodes.host.run_history, [torch.randn(1, 4, 2, 4, 4) for _ in range(entries)]
    runs = [
        history.Run(None, (history.LatentFingerprint(latent),), index=index)
        for index, latent in enumerate(latents)
        for _ in range(2)
    ]
    for index, latent in enumerate(latents):
        assert history.of_entry(runs, latent) == runs[2 * index : 2 * index + 2]
    assert history.of_entry(runs, torch.randn(1, 4, 2, 4, 4)) == runs
    assert history.of_entry(runs[:2], latents[1]) == runs[:2]
