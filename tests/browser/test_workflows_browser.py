"""Each workflow in ComfyUI's own front end: nothing missing, nothing lost, the prompt that it would queue."""

from __future__ import annotations

import json
import urllib.request
from itertools import combinations

import client
import pytest
import workflow_runs
from workflow_runs import WORKFLOWS

LOAD = """async (workflow) => {
    await app.loadGraphData(workflow);
    await new Promise((done) => setTimeout(done, 400));
    const widget = (w) => [w.name, w.value, w.options?.values ?? null];
    return {
        saved: app.graph.serialize(),
        prompt: (await app.graphToPrompt()).output,
        dialogs: [...document.querySelectorAll('[role="dialog"]')].filter((d) => d.offsetParent).length,
        wrong: app.graph.nodes.filter((n) => n.has_errors || !LiteGraph.registered_node_types[n.type]).length,
        widgets: app.graph.nodes.map((n) => [n.id, (n.widgets ?? []).map(widget)]),
    };
}"""


@pytest.fixture(scope="module")
def info(server):
    with urllib.request.urlopen(f"{server[0]}/object_info", timeout=60) as answer:
        return json.load(answer)


def test_the_front_end_takes_every_workflow_as_it_is(browser_page, info):
    for name in WORKFLOWS:
        workflow = workflow_runs.load(name)
        loaded = browser_page.evaluate(LOAD, workflow)
        assert loaded["wrong"] == loaded["dialogs"] == 0, name
        check_links(workflow, loaded["saved"], name)
        check_widgets(workflow, loaded, name)
        # What the other tests run is what the front end would queue.
        assert inputs_of(loaded["prompt"]) == inputs_of(client.to_prompt(workflow, info)), name


def check_links(workflow: dict, saved: dict, name: str) -> None:
    assert sorted(map(tuple, workflow["links"])) == sorted(map(tuple, saved["links"])), name
    ends = {(link[3], link[4]) for link in workflow["links"]}
    slots = {(n["id"], i) for n in saved["nodes"] for i, s in enumerate(n["inputs"]) if s.get("link") is not None}
    assert slots == ends, name


def check_widgets(workflow: dict, loaded: dict, name: str) -> None:
    """The values are those of the file, and every combo can hold its own. Core's nodes gain and lose widgets behind."""
    saved = {node["id"]: node for node in loaded["saved"]["nodes"]}
    for node in workflow["nodes"]:
        now, then = saved[node["id"]].get("widgets_values") or [], node["widgets_values"]
        if not node["type"].startswith("VideoAttention"):
            shared = min(len(now), len(then))
            now, then = now[:shared], then[:shared]
        assert now == then, f"{name}: {node['type']}"
    for number, widgets in loaded["widgets"]:
        for widget, value, choices in widgets:
            assert not isinstance(choices, list) or value in choices, f"{name}: {saved[number]['type']}.{widget}"


def inputs_of(prompt: dict) -> dict:
    return {key: (node["class_type"], node["inputs"]) for key, node in prompt.items()}


BOXES = """async (workflow) => {
    await app.loadGraphData(workflow);
    await new Promise((done) => setTimeout(done, 800));
    const box = ({ pos: [x, y], size: [width, height] }) => [x, y - 30, x + width, y + height];
    return app.graph.nodes.map((n) => [`${n.type} ${n.id}`, ...box(n)]);
}"""


def test_no_node_lies_over_another(browser_page):
    """By the sizes that the front end gives the nodes once it has made their widgets."""
    for name in WORKFLOWS:
        boxes = browser_page.evaluate(BOXES, workflow_runs.load(name))
        over = [
            (one, other)
            for (one, *a), (other, *b) in combinations(boxes, 2)
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]
        assert not over, name


def test_the_template_browser_lists_them(server):
    with urllib.request.urlopen(f"{server[0]}/workflow_templates", timeout=30) as answer:
        listed = json.load(answer)
    assert set(listed["ComfyUI-VideoAttention"]) == set(WORKFLOWS)
