"""The views on the nodes, in both of the front end's ways to draw nodes: pages, keys, hostile names, a reload."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import NODE, looking, shoot, value
from view_data import maps_data, plan_data, report_data, windows_data

REPORT = "VideoAttentionReport"
# What no text of a model's file, a prompt or a plan may do.
EVIL = "<img src=x onerror=\"window.hacked='yes'\"><b>bold</b>"
SHOW = f"([type, output]) => {{ {NODE} node.onExecuted(output); }}"


@pytest.fixture(params=["classic", "nodes 2"])
def styled(page, request):
    """The page in one of the two styles."""
    page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param == "nodes 2")
    page.style = request.param
    page.set_default_timeout(120000)
    yield page
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def alone(page, node_type: str, size: tuple[int, int] | None = None) -> None:
    """One node of a kind, where it can be seen whole."""
    script = f"""([type, size]) => {{ {NODE} node.pos = [4000, 4000]; if (size) node.setSize(size);
        app.canvas.ds.scale = 1; app.canvas.ds.offset = [-3900, -3900]; app.canvas.setDirty(true, true);
        app.canvas.draw(true, true); }}"""
    page.evaluate(script, [node_type, size])
    page.wait_for_timeout(500)


def add(page, node_type: str, size: tuple[int, int] = (620, 520)) -> None:
    page.evaluate("(type) => { app.graph.clear(); app.graph.add(LiteGraph.createNode(type)); }", node_type)
    alone(page, node_type, size)


def show(page, node_type: str, **output) -> None:
    page.evaluate(SHOW, [node_type, output])


def turn(page, title: str) -> None:
    page.locator(".va-tab:visible", has_text=title).click()
    page.locator(f".va-tab:visible[aria-selected='true']:has-text('{title}')").wait_for()


def point(page, label: str, x: int, y: int, begin: str) -> str:
    """Points at a plot until it says what is there: it is drawn some time after it was put on the page."""
    for shift in (0, 1) * 20:
        page.get_by_label(label).hover(position={"x": x + shift, "y": y})
        said = page.locator(".va-said:visible").inner_text()
        if said.startswith(begin):
            break
        page.wait_for_timeout(250)
    assert said.startswith(begin)
    return said


def check_fit(page) -> None:
    """No text of a view is cut off at its right edge, and no page is wider than its box."""
    wide = page.evaluate("""() => [...document.querySelectorAll('.va-view')].filter((v) => v.offsetParent)
        .flatMap((v) => [v, ...v.querySelectorAll('.va-page, .va-table, .va-bar, .va-row, .va-head')])
        .filter((e) => e.scrollWidth > e.clientWidth + 1)
        .map((e) => `${e.className}: ${e.textContent.slice(0, 60)}`)""")
    assert not wide


def test_a_report_s_pages(styled):
    """Every page by the mouse, a role chosen, a cell by the keys; the page that was chosen stays chosen."""
    add(styled, REPORT)
    show(styled, REPORT, text=["A first line.\nA second line."], report=[report_data("radial (flex)")])
    assert styled.locator(".va-table:visible tbody tr").count() == 2
    turn(styled, "Blocks")
    cells = styled.get_by_label("Blocks by steps")
    cells.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        styled.keyboard.press(key)
    said = styled.locator(".va-said:visible")
    assert said.inner_text().startswith("step 2, self block 2: sdpa, 2 calls; not radial (flex): radial (flex)")
    styled.get_by_label("Role of the attention").select_option("cross")
    said = point(styled, "Blocks by steps", 80, 26, "step 1, cross block 0: radial (flex), 2 calls, ")
    assert "computes 25 % of the pairs" in said
    check_fit(styled)
    shoot(styled, f"report blocks, {styled.style}")
    styled.keyboard.press("Escape")
    styled.locator(".va-tab[aria-selected='true']:visible").focus()
    styled.keyboard.press("ArrowRight")
    steps = styled.get_by_label("Seconds of each step")
    steps.focus()
    styled.keyboard.press("End")
    assert styled.locator(".va-said:visible").inner_text().startswith("step 4, 900 ms.")
    # A node that is not chosen would move otherwise, and the next run keeps the page.
    show(styled, REPORT, text=["Another."], report=[report_data("sage")])
    assert styled.get_by_label("Seconds of each step").is_visible()
    check_fit(styled)


# node -> what it hands to its view, all names hostile, and the pages.
VIEWS = {
    REPORT: ({"report": [report_data(EVIL)]}, ("Calls", "Blocks", "Time", "Text")),
    "VideoAttentionCalibrate": ({"plan": [plan_data(EVIL)]}, ("Choices", "Parts", "Text")),
    "VideoAttentionMaps": ({"maps": [maps_data(EVIL)]}, ("Heat", "Blocks", "Words", "Text")),
}


def test_hostile_names_stay_text(styled):
    text = f"{EVIL}\n\n| {EVIL} | b |\n| --- | --- |\n| {EVIL} | 2 |\n\nx  {EVIL}\ny  2"
    for kind, (output, pages) in VIEWS.items():
        add(styled, kind, (620, 900))
        show(styled, kind, text=[text], **output)
        for title in pages:
            turn(styled, title)
            assert styled.locator(".va-view img, .va-view script, .va-view p b, .va-table b").count() == 0
            check_fit(styled)
        assert EVIL in styled.locator(".va-view:visible").first.inner_text()
    styled.wait_for_timeout(200)
    assert styled.evaluate("window.hacked") is None


def test_a_plan_s_choices(styled):
    """By the pointer and by the keys; what the plan takes is said; the table of its parts."""
    kind = "VideoAttentionCalibrate"
    add(styled, kind, (560, 860))
    show(styled, kind, text=["Text."], plan=[plan_data("radial")])
    styled.get_by_label("Error to the right").focus()
    for _ in range(2):
        styled.keyboard.press("ArrowRight")
    said = styled.locator(".va-said:visible").inner_text()
    assert said == (
        "radial, 1 head at a time (chosen), self, radial: 1.00 s, 50 % of exact; error of the final latent 0.010, "
        "of a block 0.0050, of a call 0.020, peak 3.50 MiB"
    )
    styled.get_by_label("Part of the model").select_option("cross")
    styled.get_by_label("Error to the right").focus()
    styled.keyboard.press("ArrowRight")
    assert styled.locator(".va-said:visible").inner_text().startswith("exact (chosen), cross: 2.00 s, 100 % of exact")
    check_fit(styled)
    shoot(styled, f"plan, {styled.style}")
    turn(styled, "Parts")
    cells = styled.locator(".va-table:visible tbody tr").first.locator("td").all_inner_texts()
    assert cells == ["self, radial", "radial, 1 head at a time", "0.010", "1.00 s", "50 %", "3.50"]
    assert "memory of a call at most 4 MiB" in styled.locator(".va-head:visible").inner_text()
    check_fit(styled)
    shoot(styled, f"plan parts, {styled.style}")


def test_calibrate_counts_its_steps(page):
    kind = "VideoAttentionCalibrate"
    add(page, kind)
    tell = f"""([type, value]) => {{ {NODE} const nodes = {{ [node.id]: {{ state: "running", value, max: 40 }} }};
        comfyAPI.api.api.dispatchCustomEvent("progress_state", {{ prompt_id: "one", nodes }}); }}"""
    page.evaluate(tell, [kind, 10])
    page.wait_for_timeout(300)
    page.evaluate(tell, [kind, 20])
    assert re.fullmatch(r"Step 20 of 40, about [\d.]+ (ms|s) left\.", value(page, kind, "what ran"))


def test_windows_over_time(styled):
    kind = "VideoAttentionLongSampler"
    add(styled, kind, (560, 900))
    show(styled, kind, text=["Text."], windows=[windows_data()])
    box = styled.locator(".va-view:visible").first.inner_text()
    assert "3 windows over 24 latent frames, 7.71 s, most visible seam 2.50" in box
    assert "Seams 1.01 at 8, 2.50 at 16." in box
    styled.get_by_label("Windows over time").focus()
    for _ in range(2):
        styled.keyboard.press("ArrowDown")
    said = styled.locator(".va-said:visible").inner_text()
    assert said == "window 2: latent frames 8 to 17, 2.38 s to 5.71 s; shares 2 with the next"
    check_fit(styled)
    shoot(styled, f"windows, {styled.style}")


def test_the_next_node_with_its_number_has_a_view_of_its_own(styled):
    """As after an undo or in another tab: the page makes all nodes anew."""
    add(styled, REPORT)
    show(styled, REPORT, text=["Old."], report=[report_data("old")])
    styled.locator(".va-view:visible").get_by_text("Old.").wait_for()
    styled.evaluate("async () => { await app.loadGraphData(app.graph.serialize()); }")
    alone(styled, REPORT)
    show(styled, REPORT, text=["New."], report=[report_data("new")])
    styled.locator(".va-view:visible").get_by_text("New.").wait_for()
    assert styled.locator(".va-view:visible").get_by_text("Old.").count() == 0


def test_words_and_the_query_by_the_keys(styled):
    kind = "VideoAttentionMaps"
    add(styled, kind, (560, 860))
    show(styled, kind, text=["Text."], maps=[maps_data("cat")])
    styled.get_by_label("Frame", exact=True).fill("0")
    styled.get_by_label("Heat over the clip").focus()
    styled.keyboard.press("ArrowRight")
    styled.keyboard.press("ArrowUp")
    assert [value(styled, kind, name) for name in ("x", "y", "frame")] == [52, 48, 0]
    turn(styled, "Words")
    words = styled.locator(".va-word:visible").all_inner_texts()
    assert [word.split("\n")[0] for word in words] == ["cat", "a", "dog", "padding x 2"]
    assert words[-1].endswith("20 %")
    check_fit(styled)


def test_tables_of_any_text(styled):
    """Markdown, and columns parted by spaces, are tables; nothing is lost."""
    kind = "VideoAttentionBenchmark"
    add(styled, kind)
    text = "A line.\n\n| kernel | ms |\n| --- | ---: |\n| sdpa | 1.5 |\n\nrole  calls\nself  12\n\n  cut in\nEnd."
    show(styled, kind, text=[text])
    tables = styled.locator(".va-table:visible")
    assert tables.count() == 2 and "|" not in styled.locator(".va-view:visible").inner_text()
    assert tables.first.locator("td").all_inner_texts() == ["sdpa", "1.5"]
    assert tables.last.locator("td").all_inner_texts() == ["self", "12"]
    assert value(styled, kind, "what ran") == text
    check_fit(styled)


@pytest.mark.parametrize("depth", [0, 2])
def test_a_run_survives_a_reload(page, depth):
    prompt = looking(17 + depth)
    del prompt["7"]
    # Other values each time: a Backend that ComfyUI kept tells the node that it was in another workflow.
    prompt["2"]["inputs"]["max_error"] = 0.06 + 0.01 * depth
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'kept')", prompt)
    page.evaluate("""for (const node of app.graph.nodes) for (const widget of node.widgets ?? [])
        if (widget.name === "control_after_generate") widget.value = "fixed";""")
    for _ in range(depth):
        page.evaluate("() => { const g = app.rootGraph ?? app.graph; g.convertToSubgraph(new Set(g.nodes)); }")
    # As a file has it: a workflow with a name of its own.
    page.evaluate("""async () => { const saved = (app.rootGraph ?? app.graph).serialize();
        await app.loadGraphData({ ...saved, id: crypto.randomUUID() }); }""")
    page.evaluate("app.queuePrompt(0)")
    text = """() => { const all = (g) => g.nodes.flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])]);
        const found = ["VideoAttentionReport", "VideoAttentionBackend"].map((type) =>
            all(app.rootGraph ?? app.graph).find((n) => n.type === type));
        const [report, line] = found.map((node) => node?.widgets.find((w) => w.name === "what ran").value ?? "");
        return report && line ? `${report}\n--\n${line}` : ""; }"""
    page.wait_for_function(f"() => ({text})().includes('LTXVModel')")
    page.wait_for_function(f"() => ({text})().endsWith('attention calls.')")
    before = page.evaluate(text)
    # Again with all results kept: what came of the rule stands.
    page.evaluate("app.queuePrompt(0)")
    page.wait_for_timeout(3000)
    assert page.evaluate(text) == before
    page.evaluate("comfyAPI.api.api.dispatchCustomEvent('graphChanged', (app.rootGraph ?? app.graph).serialize())")
    # The page keeps its workflow some time after a change.
    page.wait_for_timeout(2500)
    page.reload()
    page.wait_for_function("window.app && (app.rootGraph ?? app.graph)?.nodes.length")
    page.wait_for_function(f"() => ({text})() !== ''")
    assert page.evaluate(text) == before and "LTXVModel" in before
