"""Two clips side by side on their node: they play in step, a line parts them, the worst frame is one click away."""

from __future__ import annotations

import json
import re

import host
import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import NODE, Newcomer, looking, shoot, value

COMPARE, VERIFY = "VideoAttentionCompare", "VideoAttentionVerify"
FRAMES = 24
# The mean colour of the left and of the right half of what is on the screen.
HALVES = """() => { const canvas = document.querySelector(".va-screen canvas");
    const mean = (left, wide) => { const { data } = canvas.getContext("2d").getImageData(left, 0, wide, canvas.height);
        let sum = 0; for (let i = 0; i < data.length; i += 4) sum += data[i]; return (4 * sum) / data.length; };
    const half = Math.floor(canvas.width / 2) - 6;
    return [mean(0, half), mean(canvas.width - half, half)]; }"""


def clips(shade: float) -> dict:
    """A prompt: a grey clip beside one that is lighter, both of FRAMES frames."""

    def grey(level: int) -> dict:
        inputs = {"width": 96, "height": 64, "batch_size": FRAMES, "color": level * 0x010101}
        return {"class_type": "EmptyImage", "inputs": inputs}

    inputs = {"reference": ["1", 0], "images": ["2", 0], "split": 0.5}
    return {"1": grey(60), "2": grey(round(shade * 255)), "3": {"class_type": COMPARE, "inputs": inputs}}


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "nodes 2"])
def test_two_clips_play_in_step(page, vue):
    page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", vue)
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'pair')", clips(0.7 + 0.05 * vue))
    script = f"""(type) => {{ {NODE} node.pos = [4000, 4000]; node.setSize([560, 700]);
        app.canvas.ds.scale = 1; app.canvas.ds.offset = [-3900, -3900]; app.canvas.draw(true, true); }}"""
    page.evaluate(script, COMPARE)
    page.evaluate("app.queuePrompt(0)")
    page.get_by_label("Where A ends and B begins").wait_for(state="visible")
    try:
        # It plays by itself, a frame after the other.
        page.evaluate("""window.seen = new Set();
            setInterval(() => seen.add(document.querySelector(".va-page input")?.value), 20);""")
        page.wait_for_function("window.seen.size >= 3")
        page.get_by_label("Play or pause").click()
        check_split(page)
        check_frames(page)
        shoot(page, f"compare, {'nodes 2' if vue else 'classic'}")
    finally:
        page.evaluate("app.extensionManager.setting.set('Comfy.VueNodes.Enabled', false)")


def test_verify_plays_the_exact_clip_and_the_planned_one(page):
    """Without a run of its own: what it decodes for its figures plays on it, with seconds, memory and decibels."""
    prompt = {key: node for key, node in looking(steps=3).items() if key in "1234"}
    sampled = {"seed": 1, "steps": 3, "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "simple"}
    inputs = {"model": ["2", 0], "positive": ["3", 0], "negative": ["3", 1], "latent": ["4", 0], "vae": ["5", 0]}
    pattern = {"model": ["1", 0], "pattern": "spatial", "min_tokens": 0}
    prompt |= {
        "2": {"class_type": "VideoAttentionPattern", "inputs": pattern},
        "5": {"class_type": "VideoAttentionDemoVAE", "inputs": {}},
        "6": {"class_type": VERIFY, "inputs": {**inputs, **sampled}},
    }
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'verified')", prompt)
    script = f"""(type) => {{ {NODE} node.pos = [4000, 4000]; node.setSize([620, 780]);
        app.canvas.ds.scale = 1; app.canvas.ds.offset = [-3900, -3900]; app.canvas.draw(true, true); }}"""
    page.evaluate(script, VERIFY)
    page.evaluate("app.queuePrompt(0)")
    page.get_by_label("Where A ends and B begins").wait_for(state="visible")
    said = page.locator(".va-figures b:visible").locator("xpath=..").all_inner_texts()
    assert re.match(r"A\s+exact, [\d.]+ m?s, a call [\d.]+ MiB", said[0])
    assert re.match(r"B\s+planned, [\d.]+ m?s, a call [\d.]+ MiB, [\d.]+ dB, SSIM [\d.]+, [\d.]+x as fast", said[1])
    page.get_by_label("Play or pause").click()
    worst = page.get_by_label("Show the worst frame")
    frame = worst.inner_text().removeprefix("worst: ")
    worst.click()
    page.get_by_text(re.compile(rf"^{frame} / \d+$")).wait_for(state="visible")
    page.locator(".va-tab:visible", has_text="Text").wait_for()
    shoot(page, "verify")


def check_split(page) -> None:
    """A is the darker one; Home shows B alone, End A alone, a drag moves the line."""
    left, right = page.evaluate(HALVES)
    assert left < 80 and right > 150
    screen = page.get_by_label("Where A ends and B begins")
    screen.focus()
    page.keyboard.press("Home")
    assert min(page.evaluate(HALVES)) > 150
    page.keyboard.press("End")
    assert max(page.evaluate(HALVES)) < 80
    box = screen.bounding_box()
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"], steps=4)
    page.mouse.up()
    assert page.evaluate("document.querySelector('.va-screen').getAttribute('aria-valuenow')") == "50"
    page.get_by_label("What is shown").select_option("difference")
    assert min(page.evaluate(HALVES)) > 200
    page.get_by_label("What is shown").select_option("split")


def check_frames(page) -> None:
    """Any frame by the slider; the worst by its button."""
    page.get_by_label("Frame", exact=True).fill(str(FRAMES - 1))
    page.get_by_text(f"{FRAMES - 1} / {FRAMES - 1}").wait_for(state="visible")
    worst = page.get_by_label("Show the worst frame")
    frame = worst.inner_text().removeprefix("worst: ")
    worst.click()
    page.get_by_text(f"{frame} / {FRAMES - 1}").wait_for(state="visible")


def test_a_newcomer_sees_two_clips_in_six_actions(page):
    """From an empty page: templates, the pack's, the one that compares, run. The rest is looking."""
    page.evaluate("app.graph.clear()")
    newcomer = Newcomer(page)
    saved = json.loads((host.ROOT / "workflows" / "Compare attention, A against B.json").read_text())
    newcomer.click(page.get_by_role("button", name="Templates"))
    page.get_by_role("dialog").wait_for(state="visible")
    newcomer.click(page.get_by_role("dialog").get_by_text("ComfyUI-VideoAttention"))
    newcomer.click(page.get_by_role("dialog").get_by_text("Compare attention, A against B"))
    page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(saved["nodes"]))
    # Not one of the newcomer's: fewer steps of a smaller clip, for the test's own sake.
    page.evaluate(
        "const small = { steps: 2, width: 128, height: 128, length: 25 };"
        "for (const n of app.graph.nodes) for (const w of n.widgets ?? []) if (w.name in small) w.value = small[w.name]"
    )
    newcomer.click(page.get_by_test_id("queue-button"))
    page.wait_for_function(
        f"(type) => {{ {NODE} return node.widgets.find((w) => w.name === 'what ran').value !== ''; }}", arg=COMPARE
    )
    # Fit view: the page may look elsewhere.
    newcomer.press(".")
    page.locator(".va-screen canvas").first.wait_for(state="visible")
    seen = page.get_by_label("Frame", exact=True).first
    first = seen.input_value()
    page.wait_for_function("([one, first]) => one.value !== first", arg=[seen.element_handle(), first])
    assert newcomer.actions <= 6
    assert "decibels" in value(page, COMPARE, "what ran")
    shoot(page, "newcomer compares")
