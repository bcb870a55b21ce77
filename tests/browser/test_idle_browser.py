"""Widgets without effect hide and come back, in both of the front end's ways to draw nodes; no value is lost."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import shoot

PATTERN, SAMPLER = "VideoAttentionPattern", "VideoAttentionSampler"
GUIDED = "VideoAttentionSpatiotemporalGuidance"
# Nodes of the page by their type, in whatever subgraph.
FIND = """const all = (graph) => graph.nodes.flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])]);
    const find = (type) => all(app.rootGraph ?? app.graph).find((n) => n.type === type);"""
ADD = """(types) => { app.graph.clear(); types.forEach((type, i) => {
        const node = LiteGraph.createNode(type);
        node.pos = [4000 + 500 * i, 4000];
        app.graph.add(node);
    });
    app.canvas.ds.scale = 0.8; app.canvas.ds.offset = [-3900, -3900]; app.canvas.setDirty(true, true); }"""
# As the page does it when a user turns a widget.
TURN = f"""([type, name, value]) => {{ {FIND}
    const node = find(type), widget = node.widgets.find((w) => w.name === name);
    widget.value = value;
    widget.callback?.(value, app.canvas, node); }}"""
# Newer front ends leave a linked widget's row to its link.
SHOWN = f"""(type) => {{ {FIND} const node = find(type), stands = node.isWidgetRowVisible ?? node.isWidgetVisible;
    return node.widgets.filter((w) => stands.call(node, w)).map((w) => w.name); }}"""
LABELS = """() => [...document.querySelectorAll(".lg-node-widget, .lg-slot--input")].filter((w) => w.offsetParent)
    .map((w) => w.innerText.trim().split("\\n")[0])"""
HEIGHTS = f"(type) => {{ {FIND} const node = find(type); return [node.size[1], node.computeSize()[1]]; }}"
VALUES = f"() => {{ {FIND} return all(app.rootGraph ?? app.graph).map((n) => n.serialize().widgets_values ?? []); }}"
LINK = f"""([from, to, input]) => {{ {FIND} const node = find(to);
    find(from).connect(0, node, node.inputs.findIndex((i) => i.name === input)); }}"""
UNLINK = f"""([type, input]) => {{ {FIND} const node = find(type);
    node.disconnectInput(node.inputs.findIndex((i) => i.name === input)); }}"""
RELOAD = "async () => { await app.loadGraphData(JSON.parse(JSON.stringify(app.graph.serialize()))); }"


@pytest.fixture(params=["classic", "nodes 2"])
def styled(page, request):
    page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", request.param == "nodes 2")
    page.style = request.param
    page.set_default_timeout(120000)
    yield page
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def seen(page, node_type: str) -> set[str]:
    """Names of the widgets that stand on a node, those of a dynamic combo by the last part."""
    page.wait_for_timeout(400)
    names = {name.rpartition(".")[2] for name in page.evaluate(SHOWN, node_type)}
    if page.style == "nodes 2":
        drawn = set(page.evaluate(LABELS))
        return {name for name in names if name in drawn}
    return names


def test_they_hide_and_come_back(styled):
    styled.evaluate(ADD, [PATTERN, GUIDED])
    before, values = seen(styled, PATTERN) | seen(styled, GUIDED), styled.evaluate(VALUES)
    assert {"time", "time_unit", "width", "enabled", "scale", "mode"} <= before and "fps" not in before
    styled.evaluate(TURN, [PATTERN, "pattern", "spatial"])
    styled.evaluate(TURN, [GUIDED, "enabled", False])
    assert "time_unit" not in seen(styled, PATTERN) and "blocks" in seen(styled, PATTERN)
    assert seen(styled, GUIDED) <= {"enabled", "what ran"}
    shoot(styled, f"idle widgets {styled.style}")
    low, _ = styled.evaluate(HEIGHTS, GUIDED)
    # Saved, and read again.
    hidden = styled.evaluate(VALUES)
    assert hidden[1] == [False, *values[1][1:]] and len(hidden[0]) == len(values[0]) - 3
    styled.evaluate(RELOAD)
    assert styled.evaluate(VALUES) == hidden
    assert "time_unit" not in seen(styled, PATTERN) and seen(styled, GUIDED) <= {"enabled", "what ran"}
    styled.evaluate(TURN, [PATTERN, "pattern", "sliding tile"])
    styled.evaluate(TURN, [GUIDED, "enabled", True])
    assert seen(styled, PATTERN) | seen(styled, GUIDED) == before and styled.evaluate(VALUES) == values
    high, least = styled.evaluate(HEIGHTS, GUIDED)
    assert low < high and high >= least


def test_links_count(styled):
    """Noise levels of another node: what would make them hides. A widget with a link of its own stays."""
    styled.evaluate(ADD, [SAMPLER, "ManualSigmas", "PrimitiveInt"])
    values = styled.evaluate(VALUES)
    assert {"steps", "denoise", "scheduler_name", "sampler_name"} <= seen(styled, SAMPLER)
    styled.evaluate(LINK, ["ManualSigmas", SAMPLER, "sigmas"])
    assert not {"steps", "denoise", "scheduler_name"} & seen(styled, SAMPLER)
    assert "sampler_name" in seen(styled, SAMPLER)
    prompt = styled.evaluate("async () => (await app.graphToPrompt()).output")
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == SAMPLER)
    assert inputs["steps"] == 20 and inputs["denoise"] == 1 and inputs["scheduler_name"] == "auto"
    styled.evaluate(LINK, ["PrimitiveInt", SAMPLER, "steps"])
    assert "steps" in seen(styled, SAMPLER) and "denoise" not in seen(styled, SAMPLER)
    styled.evaluate(RELOAD)
    assert "steps" in seen(styled, SAMPLER) and "denoise" not in seen(styled, SAMPLER)
    styled.evaluate(UNLINK, [SAMPLER, "sigmas"])
    assert {"steps", "denoise", "scheduler_name"} <= seen(styled, SAMPLER) and styled.evaluate(VALUES) == values
    # A switch that another node turns may be on.
    styled.evaluate(ADD, [GUIDED, "PrimitiveBoolean"])
    styled.evaluate(TURN, [GUIDED, "enabled", False])
    assert "scale" not in seen(styled, GUIDED)
    styled.evaluate(LINK, ["PrimitiveBoolean", GUIDED, "enabled"])
    assert "scale" in seen(styled, GUIDED)


def test_advanced_widgets_stand_behind_a_button(page):
    """On the classic canvas, whose own way leaves holes; in Nodes 2.0 the front end has one. Subgraphs."""
    page.style = "classic"
    page.evaluate(ADD, [PATTERN])
    few, values = seen(page, PATTERN), page.evaluate(VALUES)
    assert "advanced inputs" in few and not {"engine", "guard", "combine"} & few
    page.evaluate(TURN, [PATTERN, "advanced inputs", None])
    shoot(page, "advanced inputs")
    # The percent at the end of a ramp that is none has no effect.
    assert {"engine", "guard", "combine", "ramp"} <= seen(page, PATTERN) and "keep_end" not in seen(page, PATTERN)
    page.evaluate(RELOAD)
    assert "engine" in seen(page, PATTERN) and page.evaluate(VALUES) == values
    page.evaluate(TURN, [PATTERN, "advanced inputs", None])
    assert seen(page, PATTERN) == few and page.evaluate(VALUES) == values
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    page.style = "nodes 2"
    try:
        assert "advanced inputs" not in seen(page, PATTERN) and "blocks" in seen(page, PATTERN)
        assert page.get_by_text("Show advanced inputs").count() == 1
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    page.style = "classic"
    assert seen(page, PATTERN) == few
    page.evaluate(ADD, [GUIDED])
    page.evaluate("() => { app.graph.convertToSubgraph(new Set(app.graph.nodes)); }")
    page.evaluate(TURN, [GUIDED, "enabled", False])
    assert "scale" not in seen(page, GUIDED)
    page.evaluate(RELOAD)
    assert "scale" not in seen(page, GUIDED) and "enabled" in seen(page, GUIDED)
