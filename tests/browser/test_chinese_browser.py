"""The views, a node's text and a sampler's line where the page speaks Chinese."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import NODE, reload_in, shoot
from view_data import maps_data, plan_data, report_data, windows_data

CHINESE = json.loads(Path(__file__).with_name("chinese.json").read_text(encoding="utf-8"))
REPORT = (
    "Self-attention 1.43x as fast as ComfyUI's own (sdpa flash); about 8 % of the run saved, 3.1 s. SageAttention is "
    "not installed and may be faster: pip install sageattention.\n"
    "LTXVModel, 4 x 8 x 16 tokens (time x height x width), 20 steps: 480 attention calls.\n"
    "Sage: 0 of 480 self-attention calls (900 video tokens, fewer than min_tokens).\n\n"
    "role  ran on  calls  blocks\nself  sdpa    480    0-27"
)
# Of names and values that stay as they are.
ENGLISH = re.compile(
    r"(?<![\w.-])(?!self|cross|sdpa|spatial|radial|cat|dog|auto|token|exact|flash|pip|install|sage)[a-z]{3,}(?!\w)"
)
SAID = """(element) => [element.innerText, ...[...element.querySelectorAll('[title], [aria-label]')]
    .flatMap((e) => [e.title, e.getAttribute('aria-label') ?? ''])].join('\\n')"""


@pytest.fixture
def chinese(page):
    reload_in(page, "zh")
    page.set_default_timeout(30000)
    yield page
    page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'en')")


def show(page, node_type: str, **output) -> None:
    page.evaluate(
        f"""([type, output]) => {{ app.graph.clear(); app.graph.add(LiteGraph.createNode(type)); {NODE}
        node.pos = [4000, 4000]; node.setSize([620, 700]); app.canvas.ds.scale = 1;
        app.canvas.ds.offset = [-3900, -3900]; app.canvas.setDirty(true, true); app.canvas.draw(true, true);
        node.onExecuted(output); }}""",
        [node_type, output],
    )
    page.locator(".va-view:visible").wait_for()


def test_every_page_of_every_view_is_in_chinese(chinese):
    views = {
        "VideoAttentionReport": {"report": [report_data("radial")]},
        "VideoAttentionCalibrate": {"plan": [plan_data("radial")]},
        "VideoAttentionMaps": {"maps": [maps_data("cat")]},
        "VideoAttentionLongSampler": {"windows": [windows_data()]},
    }
    for kind, output in views.items():
        show(chinese, kind, text=[REPORT], **output)
        tabs = chinese.locator(".va-tab:visible")
        for at in range(tabs.count()):
            tabs.nth(at).evaluate("(tab) => tab.click()")
            said = chinese.locator(".va-view:visible").evaluate(SAID)
            assert not ENGLISH.findall(said), (kind, ENGLISH.findall(said), said)
            shoot(chinese, f"chinese, {kind[14:]} {at}")


def test_a_report_s_text_and_its_first_line(chinese):
    show(chinese, "VideoAttentionReport", text=[REPORT])
    said = chinese.locator(".va-view:visible").inner_text()
    assert all(sentence in said for sentence in CHINESE["report"])
    shoot(chinese, "chinese, a report's text")


def test_what_is_a_name_stays_as_it_is(chinese):
    """A word of the prompt that is a word of ours, too."""
    show(chinese, "VideoAttentionMaps", text=["Text."], maps=[maps_data("Time")])
    chinese.locator(".va-tab:visible").nth(2).evaluate("(tab) => tab.click()")
    assert chinese.locator(".va-word:visible").first.inner_text().startswith("Time")


def test_the_line_of_a_running_sampler(chinese):
    """As ComfyUI itself shows it, and no other node's."""
    script = """(type) => { app.graph.clear(); const node = LiteGraph.createNode(type); app.graph.add(node);
        const detail = { nodeId: String(node.id), text: "Step 3 of 20, 12 s left" };
        comfyAPI.api.api.dispatchCustomEvent("progress_text", detail); return detail.text; }"""
    assert chinese.evaluate(script, "VideoAttentionSampler") == CHINESE["line"]
    assert chinese.evaluate(script, "KSampler") == "Step 3 of 20, 12 s left"


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes 2"])
def test_a_list_says_what_it_offers_and_keeps_its_value(chinese, vue):
    kind = "VideoAttentionBackend"
    try:
        chinese.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
        said = chinese.evaluate(
            f"""(type) => {{ app.graph.clear(); app.graph.add(LiteGraph.createNode(type)); {NODE}
            node.pos = [4000, 4000]; app.canvas.ds.scale = 1; app.canvas.ds.offset = [-3800, -3800];
            app.canvas.draw(true, true);
            return Object.fromEntries(node.widgets.map((w) => [w.name, [w._displayValue, w.value]])); }}""",
            kind,
        )
        assert said["role"] == [CHINESE["all"], "all"] and said["on_unsupported"] == [CHINESE["fall back"], "fall back"]
        # Names of kernels are the same in every language.
        assert said["backend"][0] == said["backend"][1]
        if vue:
            chinese.get_by_text(CHINESE["all"], exact=True).first.wait_for(state="visible")
        shoot(chinese, f"chinese, lists, {'nodes 2' if vue else 'classic'}")
        prompt = chinese.evaluate("async () => (await app.graphToPrompt()).output")
        (inputs,) = (node["inputs"] for node in prompt.values())
        assert inputs["role"] == "all"
    finally:
        chinese.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def test_a_sentence_calls_a_node_as_the_page_does(chinese):
    text = "Not timed: turn timing on in Video Attention Backend to see how much faster sage is."
    show(chinese, "VideoAttentionReport", text=[text])
    assert CHINESE["named"] in chinese.locator(".va-view:visible").inner_text()
