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


def names_on(page, node_type: str) -> set[str]:
    """Names of the widgets that stand on a node, those of a dynamic combo by the last part."""
    names = {name.rpartition(".")[2] for name in page.evaluate(SHOWN, node_type)}
    return names & set(page.evaluate(LABELS)) if page.style == "nodes 2" else names


def seen(page, node_type: str, has=(), lacks=()) -> set[str]:
    """Waits until a node shows some widgets and not some others: Nodes 2.0 draws when it comes to it."""
    for _ in range(200):
        names = names_on(page, node_type)
        if set(has) <= names and not names & set(lacks):
            return names
        page.wait_for_timeout(300)
    raise AssertionError(f"{node_type} shows {sorted(names)}, not {has} without {lacks}")


def test_they_hide_and_come_back(styled):
    styled.evaluate(ADD, [PATTERN, GUIDED])
    shape, guide = ("time", "time_unit", "width", "blocks"), ("enabled", "scale", "mode")
    seen(styled, PATTERN, shape, ("fps",))
    seen(styled, GUIDED, guide)
    values = styled.evaluate(VALUES)
    styled.evaluate(TURN, [PATTERN, "pattern", "spatial"])
    styled.evaluate(TURN, [GUIDED, "enabled", False])
    seen(styled, PATTERN, ("blocks",), ("time_unit", "time"))
    seen(styled, GUIDED, ("enabled",), ("scale", "mode", "end_percent"))
    shoot(styled, f"idle widgets {styled.style}")
    low, _ = styled.evaluate(HEIGHTS, GUIDED)
    # Saved, and read again.
    hidden = styled.evaluate(VALUES)
    assert hidden[1] == [False, *values[1][1:]] and len(hidden[0]) == len(values[0]) - 3
    styled.evaluate(RELOAD)
    assert styled.evaluate(VALUES) == hidden
    seen(styled, PATTERN, ("blocks",), ("time_unit", "time"))
    seen(styled, GUIDED, ("enabled",), ("scale", "mode", "end_percent"))
    styled.evaluate(TURN, [PATTERN, "pattern", "sliding tile"])
    styled.evaluate(TURN, [GUIDED, "enabled", True])
    seen(styled, PATTERN, shape, ("fps",))
    seen(styled, GUIDED, guide)
    assert styled.evaluate(VALUES) == values
    high, least = styled.evaluate(HEIGHTS, GUIDED)
    assert low < high and high >= least


def test_links_count(styled):
    """Noise levels of another node: what would make them hides. A widget with a link of its own stays."""
    made = ("steps", "denoise", "scheduler_name")
    styled.evaluate(ADD, [SAMPLER, "ManualSigmas", "PrimitiveInt"])
    values = styled.evaluate(VALUES)
    seen(styled, SAMPLER, (*made, "sampler_name"))
    styled.evaluate(LINK, ["ManualSigmas", SAMPLER, "sigmas"])
    seen(styled, SAMPLER, ("sampler_name",), made)
    prompt = styled.evaluate("async () => (await app.graphToPrompt()).output")
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == SAMPLER)
    assert inputs["steps"] == 20 and inputs["denoise"] == 1 and inputs["scheduler_name"] == "auto"
    styled.evaluate(LINK, ["PrimitiveInt", SAMPLER, "steps"])
    seen(styled, SAMPLER, ("steps",), ("denoise",))
    styled.evaluate(RELOAD)
    seen(styled, SAMPLER, ("steps",), ("denoise",))
    styled.evaluate(UNLINK, [SAMPLER, "sigmas"])
    seen(styled, SAMPLER, made)
    assert styled.evaluate(VALUES) == values
    # A switch that another node turns may be on.
    styled.evaluate(ADD, [GUIDED, "PrimitiveBoolean"])
    styled.evaluate(TURN, [GUIDED, "enabled", False])
    seen(styled, GUIDED, ("enabled",), ("scale",))
    styled.evaluate(LINK, ["PrimitiveBoolean", GUIDED, "enabled"])
    seen(styled, GUIDED, ("scale",))


def test_advanced_widgets_stand_behind_a_button(page):
    """On the classic canvas, whose own way leaves holes; in Nodes 2.0 the front end has one. Subgraphs."""
    page.style, button, few = "classic", "advanced inputs", ("engine", "guard", "combine")
    page.evaluate(ADD, [PATTERN])
    seen(page, PATTERN, (button,), few)
    values = page.evaluate(VALUES)
    page.evaluate(TURN, [PATTERN, button, None])
    # The percent at the end of a ramp that is none has no effect.
    seen(page, PATTERN, (*few, "ramp"), ("keep_end",))
    shoot(page, "advanced inputs")
    page.evaluate(RELOAD)
    seen(page, PATTERN, few)
    assert page.evaluate(VALUES) == values
    page.evaluate(TURN, [PATTERN, button, None])
    seen(page, PATTERN, (button,), few)
    assert page.evaluate(VALUES) == values
    page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', true)")
    page.style = "nodes 2"
    try:
        seen(page, PATTERN, ("blocks",), (button,))
        page.get_by_text("Show advanced inputs").wait_for()
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")
    page.style = "classic"
    seen(page, PATTERN, (button,), few)
    page.evaluate(ADD, [GUIDED])
    page.evaluate("() => { app.graph.convertToSubgraph(new Set(app.graph.nodes)); }")
    page.evaluate(TURN, [GUIDED, "enabled", False])
    seen(page, GUIDED, ("enabled",), ("scale",))
    page.evaluate(RELOAD)
    seen(page, GUIDED, ("enabled",), ("scale",))
