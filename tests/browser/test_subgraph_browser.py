"""Our views inside a subgraph, where most of ComfyUI's video templates have loader and sampler; nested ones too."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import looking, shoot

# Every node of the page with its path, whatever subgraph it is in.
ALL = """
    const found = [];
    const walk = (graph, path) => { for (const node of graph.nodes) {
        found.push([[...path, node.id].join(":"), node]);
        if (node.subgraph) walk(node.subgraph, [...path, node.id]);
    } };
    walk(app.rootGraph ?? app.graph, []);
    const text = (type) => found.find(([, n]) => n.type === type)[1].widgets.find((w) => w.name === "what ran").value;
"""
FOLD = """(types) => {
    const graph = app.rootGraph ?? app.graph;
    const nodes = graph.nodes.filter((n) => !types || types.includes(n.type));
    graph.convertToSubgraph(new Set(nodes));
}"""
LISTEN = f"""() => {{ window.told = []; window.comfyAPI.api.api.addEventListener("video_attention.progress", () => {{
    {ALL} told.push(text("VideoAttentionReport")); }}); }}"""
TEXTS = f"""() => {{ {ALL}
    return Object.fromEntries(["Report", "Maps", "Backend"].map((n) => [n, text("VideoAttention" + n)])); }}"""
HEAT = f"""() => {{ {ALL} const node = found.find(([, n]) => n.type === "VideoAttentionMaps")[1];
    const box = node.widgets.find((w) => w.name === "what ran").element;
    return box.querySelector(".va-screen")?.dataset.layer ?? ""; }}"""
# All but the words: the loader, the sampler, and every view of ours.
TYPES = ["UNETLoader", "VideoAttentionBackend", "KSampler", "VideoAttentionReport", "VideoAttentionMaps"]


def texts(page) -> dict:
    return page.evaluate(TEXTS)


@pytest.mark.parametrize("depth", [1, 2])
def test_views_inside_a_subgraph(page, depth):
    # Other values each time: what ComfyUI keeps says nothing.
    steps = 11 + depth
    prompt = looking(steps)
    prompt["2"]["inputs"]["max_error"] = 0.03 + 0.01 * depth
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'inside')", prompt)
    page.evaluate(FOLD, TYPES)
    for _ in range(depth - 1):
        page.evaluate(FOLD, None)
    paths = page.evaluate(f"() => {{ {ALL} return found.filter(([, n]) => n.type === 'KSampler').map(([p]) => p); }}")
    assert [path.count(":") for path in paths] == [depth]
    page.evaluate(LISTEN)
    page.evaluate("app.queuePrompt(0)")
    page.wait_for_function(f"() => ({HEAT})() === 'mean of 0-1'")
    page.wait_for_function(f"() => ({TEXTS})().Report.includes('LTXVModel, 2 x 3 x 4')")
    told, shown = page.evaluate("told"), texts(page)
    # Also while it ran.
    assert len(told) >= 2 and re.match(rf"Step 1 of {steps}, .*s left\.\nself on sdpa: 2 calls", told[0])
    # Of the sampler's run, not of the evaluation that Maps makes.
    calls = 4 * steps
    assert f"Backend sdpa: {calls} of {calls} attention calls." in shown["Backend"]
    assert "View of the token at frame 0" in shown["Maps"]
    shoot(page, f"subgraph {depth}")
    # Another tab and back: the page makes all nodes anew.
    page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.wait_for_function("() => !(app.rootGraph ?? app.graph).nodes.length")
    page.evaluate("app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    page.wait_for_function("() => (app.rootGraph ?? app.graph).nodes.length")
    page.wait_for_function(f"() => ({TEXTS})().Report !== ''")
    # What came of its rule too, which the server told after the node had run.
    assert texts(page) == shown
    page.wait_for_function(f"() => ({HEAT})() === 'mean of 0-1'")
