"""Each workflow in ComfyUI's own front end: nothing missing, nothing lost, the prompt that it would queue."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import client
import layout
import pytest
import templates
import workflow_runs
from pages import shoot
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
    for name in workflow_runs.here(info):
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


# What a run gave each node is shown on it, as the front end does on its own message.
BOXES = """async ([workflow, outputs]) => {
    await app.loadGraphData(workflow);
    await new Promise((done) => setTimeout(done, 400));
    for (const [node, output] of Object.entries(outputs)) {
        const detail = { node, display_node: node, output, prompt_id: "shown" };
        app.api.dispatchEvent(new CustomEvent("executed", { detail }));
    }
    // Until pictures and players have made their nodes as high as they are.
    const sizes = () => JSON.stringify(app.graph.nodes.map((n) => [...n.size]));
    for (let now = "", tries = 0; now !== (now = sizes()) && tries < 20; tries++) {
        app.canvas.draw(true, true);
        await new Promise((done) => setTimeout(done, 800));
    }
    const box = (n) => {
        const [[x, y], [width, height]] = [n.pos, n.flags.collapsed ? [n._collapsed_width ?? 200, 0] : n.size];
        return [x, y - 30, x + width, y + height];
    };
    return app.graph.nodes.map((n) => [`${n.type} ${n.id}`, ...box(n)]);
}"""


@pytest.fixture(scope="module")
def outputs(server, info):
    """Workflow -> what its nodes gave in a run at small sizes. In a thread: beside Playwright asyncio.run does not."""
    comfy = client.Client(server[0])
    with ThreadPoolExecutor(1) as thread:
        return {
            name: thread.submit(workflow_runs.outputs, comfy, name, info).result() for name in workflow_runs.here(info)
        }


def test_no_node_lies_over_another_after_a_run(outputs, browser_page):
    """By the sizes that the front end gives the nodes with their texts, views, pictures and players open."""
    for name in outputs:
        workflow = workflow_runs.load(name)
        boxes = browser_page.evaluate(BOXES, [workflow, outputs[name]])
        over = [
            (one, other)
            for (one, *a), (other, *b) in combinations(boxes, 2)
            if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
        ]
        assert not over, name
        check_size([corners for _, *corners in boxes], workflow["groups"], name)


def check_size(boxes: list, groups: list[dict], name: str) -> None:
    """All of it fits, and no node reaches out of the box of its step."""
    width, height = (max(b[i + 2] for b in boxes) - min(b[i] for b in boxes) for i in (0, 1))
    assert width <= layout.BOUNDS[0] and height <= layout.BOUNDS[1], f"{name}: {width:.0f} x {height:.0f}"
    for group in groups:
        x, y, wide, high = group["bounding"]
        inside = [b for b in boxes if x <= b[0] and b[2] <= x + wide and y <= b[1] < y + high]
        assert inside and all(b[3] <= y + high for b in inside), f"{name}: {group['title']}"


def test_the_list_begins_with_the_demo_whose_thumbnail_moves(browser_page):
    """ComfyUI lists a folder's files as the disk gives them; web/templates.js sorts ours."""
    browser_page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    browser_page.get_by_text("ComfyUI-VideoAttention", exact=True).first.click()
    first, *_ = templates.WORKFLOWS
    card = browser_page.locator(f"[data-testid='template-workflow-{first}']")
    card.locator("img").wait_for(state="visible")
    cards = browser_page.locator("[data-testid^='template-workflow-']")
    shown = [one.get_attribute("data-testid").removeprefix("template-workflow-") for one in cards.all()]
    assert shown == list(templates.WORKFLOWS)[: len(shown)] and len(shown) > 6
    shoot(browser_page, "list of templates")
    seen = set()
    for _ in range(20):
        seen.add(card.locator("img").screenshot())
        browser_page.wait_for_timeout(200)
    assert len(seen) > 3


def test_the_template_browser_lists_them(server):
    with urllib.request.urlopen(f"{server[0]}/workflow_templates", timeout=30) as answer:
        listed = json.load(answer)
    assert set(listed["ComfyUI-VideoAttention"]) == set(WORKFLOWS)
