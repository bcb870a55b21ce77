"""The pack in ComfyUI's own front end, in a real browser. Pictures of each step land in output/test."""

from __future__ import annotations

import json
import re

import host
import pytest
from pages import NODE, add_by_search, looking, shoot, value

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
Late = sync_api.TimeoutError

DEMO = host.ROOT / "workflows" / "Video attention demo.json"
STEPS = 4


def open_file(page, path) -> None:
    for _ in range(10):
        try:
            with page.expect_file_chooser(timeout=3000) as chooser:
                page.keyboard.press("Control+o")
        except Late:
            continue
        return chooser.value.set_files(path)
    raise AssertionError("Ctrl+O opened no dialog for a file")


def place(page, node_type: str, point: str) -> tuple[float, float]:
    """Where `point`, an expression of `node` in graph units, is on the screen."""
    script = f"""(type) => {{ {NODE}
        const [x, y] = app.canvas.ds.convertOffsetToCanvas({point});
        const box = app.canvas.canvas.getBoundingClientRect();
        return [x + box.left, y + box.top]; }}"""
    return tuple(page.evaluate(script, node_type))


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


def test_build_a_graph_by_hand(page):
    add_by_search(page, "load diffusion model", "Load Diffusion Model", 300, 300)
    add_by_search(page, "sageattention", "Video Attention Backend", 800, 300)
    output = place(page, "UNETLoader", "node.getConnectionPos(false, 0)")
    drag(page, output, place(page, "VideoAttentionBackend", "node.getConnectionPos(true, 0)"))
    page.wait_for_function(f"(type) => {{ {NODE} return node.isInputConnected(0); }}", arg="VideoAttentionBackend")
    combo = "[node.pos[0] + node.size[0] / 2, node.pos[1] + node.widgets[0].last_y + 10]"
    page.mouse.click(*place(page, "VideoAttentionBackend", combo))
    choice = page.locator(".litemenu-entry").get_by_text("sdpa", exact=True)
    choice.wait_for(state="visible")
    shoot(page, "choose a backend")
    choice.click()
    page.wait_for_function("!document.querySelector('.litemenu-entry')")
    assert value(page, "VideoAttentionBackend", "backend") == "sdpa"
    shoot(page, "graph by hand")
    # A report, some lines, one line: each has its place on the node.
    for node_type in ("VideoAttentionVerify", "VideoAttentionSavePlan", "VideoAttentionPattern"):
        page.evaluate("(type) => { app.graph.add(LiteGraph.createNode(type)); }", node_type)
        assert value(page, node_type, "what ran") == ""


def test_run_the_demo_workflow(page):
    open_file(page, DEMO)
    page.wait_for_function("(type) => app.graph.nodes.some((n) => n.type === type)", arg="VideoAttentionReport")
    page.wait_for_timeout(1000)  # a dialog about missing nodes or models would come up now
    assert page.locator('[role="dialog"]:visible').count() == 0
    assert (
        page.evaluate("app.graph.nodes.filter((n) => n.has_errors || !LiteGraph.registered_node_types[n.type]).length")
        == 0
    )
    shoot(page, "demo workflow")
    set_steps = f"([type, steps]) => {{ {NODE} node.widgets.find((w) => w.name === 'steps').value = steps; }}"
    page.evaluate(set_steps, ["KSampler", STEPS])
    page.get_by_test_id("queue-button").click()
    finished = "Object.values(app.nodeOutputs).some((o) => (o.images ?? []).some((i) => i.filename.endsWith('.webp')))"
    page.wait_for_function(finished, timeout=120000)
    check_results(page)


def check_results(page) -> None:
    """The report is on its node, the clip plays, the animated picture is there."""
    page.wait_for_function(
        "[...document.querySelectorAll('video')].some((v) => v.readyState >= 2 && v.videoWidth === 384)", timeout=20000
    )
    loaded = "[...document.querySelectorAll('img')].some((i) => i.src.includes('.webp') && i.naturalWidth === 384)"
    page.wait_for_function(loaded, timeout=20000)
    fit = "app.canvas.ds.scale = 0.6; app.canvas.ds.offset = [80, 130]; app.canvas.setDirty(true, true)"
    page.evaluate(fit)
    page.wait_for_timeout(1500)
    shoot(page, "demo workflow finished")
    report = value(page, "VideoAttentionReport", "what ran")
    assert page.locator(".va-head:visible").get_by_text(report.splitlines()[0], exact=True).count() >= 1
    # What came of its rule, on the node of the rule.
    line = value(page, "VideoAttentionBackend", "what ran")
    assert line.startswith(report.splitlines()[0]) and re.search(r"Backend \S+: \d+ of \d+ attention calls\.$", line)
    assert re.search(rf"^LTXVModel, 16 x 12 x 12 tokens .*, {STEPS} steps: \d+ attention calls", report, re.MULTILINE)
    assert re.match(r"(Self|Cross)-attention|Not timed|ComfyUI's own", report), "the first line answers"


def test_nodes_2_shows_a_line_once_and_a_report_that_nobody_can_edit(page):
    """The front end's other way to draw nodes, as HTML."""
    said = "LTXV: blocks and grid known"
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    try:
        page.evaluate("async (w) => { await app.loadGraphData(w); }", json.loads(DEMO.read_text()))
        for node_type in ("VideoAttentionBackend", "VideoAttentionReport"):
            page.evaluate(f"([type, text]) => {{ {NODE} node.onExecuted({{ text: [text] }}); }}", [node_type, said])
        line = page.locator(f"[data-node-id='{number(page, 'VideoAttentionBackend')}']").get_by_text(said)
        line.wait_for(state="visible")
        assert line.count() == 1 and line.evaluate("(e) => e.scrollWidth <= e.clientWidth && e.tagName") == "DIV"
        box = page.locator(f"[data-node-id='{number(page, 'VideoAttentionReport')}'] .va-view")
        box.get_by_text(said, exact=True).wait_for(state="visible")
        assert box.locator("textarea, input, [contenteditable]").count() == 0
        shoot(page, "nodes 2")
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def number(page, node_type: str):
    return page.evaluate(f"(type) => {{ {NODE} return node.id; }}", node_type)


SCREEN = "document.querySelector('.va-screen')"


def test_maps_and_report_are_on_their_nodes(page):
    """The report grows while the sampler runs; a click on a heat map is the next query point."""
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'looking')", looking(steps=12))
    page.evaluate(
        """() => { window.told = []; window.comfyAPI.api.api.addEventListener("video_attention.progress", () => {
            const node = app.graph.nodes.find((n) => n.type === "VideoAttentionReport");
            told.push(node.widgets.find((w) => w.name === "what ran").value); }); }"""
    )
    page.evaluate("app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [60, 140]; app.graph.arrange(60)")
    page.get_by_test_id("queue-button").click()
    page.wait_for_function(f"{SCREEN}?.dataset.layer === 'mean of 0-1'")
    told = page.evaluate("told")
    assert len(told) >= 2 and re.match(r"Step 1 of 12, .*s left\.\nself on sdpa: 2 calls", told[0])
    assert "8 x 8 x 8" not in told[0] and "LTXVModel, 2 x 3 x 4" in value(page, "VideoAttentionReport", "what ran")
    assert "View of the token at frame 0, row 1, column 2" in value(page, "VideoAttentionMaps", "what ran")
    shoot(page, "maps")
    # The second latent frame, and a place of it: the picture stands in the middle of its screen.
    page.get_by_label("Frame", exact=True).fill("1")
    page.wait_for_function(f"{SCREEN}.dataset.frame === '1'")
    box = page.locator(".va-screen").bounding_box()
    wide = min(box["width"], box["height"] * 4 / 3)
    high = wide * 3 / 4
    left, top = (box["width"] - wide) / 2, (box["height"] - high) / 2
    page.mouse.click(box["x"] + left + 0.3 * wide, box["y"] + top + 0.8 * high)
    point = [value(page, "VideoAttentionMaps", name) for name in ("x", "y", "frame")]
    assert point == pytest.approx([30, 80, 1], abs=2)
    assert value(page, "VideoAttentionMaps", "seed") == 0
    page.get_by_test_id("queue-button").click()
    page.wait_for_function(
        f"(type) => {{ {NODE} return node.widgets.find((w) => w.name === 'what ran').value.includes("
        "'View of the token at frame 1, row 2, column 1'); }",
        arg="VideoAttentionMaps",
    )
    page.wait_for_timeout(500)
    shoot(page, "maps looked from a click")


# A node with a seed -> what the front end does to it after a run: a measurement's stands still, a sampler's is another
# one each time, as in ComfyUI's samplers; Maps has no such widget at all.
SEEDS = {
    "VideoAttentionBenchmark": "fixed",
    "VideoAttentionCalibrate": "fixed",
    "VideoAttentionLongSampler": "randomize",
    "VideoAttentionMaps": None,
    "VideoAttentionSampler": "randomize",
    "VideoAttentionTwoStageSampler": "randomize",
    "VideoAttentionVerify": "fixed",
}


def test_seeds_of_nodes_that_measure_stand_still(page):
    found = page.evaluate("""() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types)
        .filter((type) => type.startsWith("VideoAttention"))
        .map((type) => LiteGraph.createNode(type))
        .map((node) => [node.type, node.widgets?.find((w) => w.name === "seed")])
        .filter(([, seed]) => seed)
        .map(([type, seed]) => [type, seed.linkedWidgets?.[0]?.value ?? null]))""")
    assert {node: found[node] for node in SEEDS} == SEEDS
    assert set(found.values()) <= set(SEEDS.values()), "a node with a seed that does something else after a run"
