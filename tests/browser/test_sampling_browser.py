"""A sampler in ComfyUI's own page while it runs: the preview moves, the node counts the seconds."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

from pages import NODE, shoot, value

SAMPLER = "VideoAttentionSampler"
STEPS = 150
# Queues the graph; the first moment at which both the line and the picture are on the node.
SEEN = f"""async (type) => {{
    let blob = null;
    comfyAPI.api.api.addEventListener("b_preview_with_metadata", (event) => (blob = event.detail.blob));
    app.queuePrompt(0);
    for (let i = 0; i < 12000; i++) {{
        {NODE}
        const line = node?.widgets?.find((w) => w.name === "$$node-text-preview")?.value;
        const image = node?.imgs?.[0];
        if (blob && line?.includes(" left") && image?.naturalWidth && image.isConnected) {{
            const bytes = new Uint8Array(await blob.arrayBuffer());
            const text = String.fromCharCode(...bytes);
            return {{ line, kind: text.slice(8, 12), moves: text.split("ANMF").length - 1, width: image.naturalWidth }};
        }}
        await new Promise((done) => setTimeout(done, 20));
    }}
    const node_ = app.graph.nodes.find((n) => n.type === type);
    throw new Error(`no preview: ${{node_.widgets.map((w) => `${{w.name}}=${{w.value}}`)}}, ${{node_.imgs?.length}}`);
}}"""


def graph(latent_frames: int) -> dict:
    size = {"width": 128, "height": 96, "length": 8 * (latent_frames - 1) + 1, "batch_size": 1}
    sampler = {
        "model": ["1", 0], "positive": ["2", 0], "negative": ["2", 1], "latent": ["3", 0], "seed": 3, "steps": STEPS,
        "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "auto", "denoise": 1.0,
    }  # fmt: skip
    words = {"colour": "red", "shape": "disc", "direction": "right"}
    model = {"unet_name": "tiny-ltxv.safetensors", "weight_dtype": "default"}
    return {
        "1": {"class_type": "UNETLoader", "inputs": model},
        "2": {"class_type": "VideoAttentionDemoPrompt", "inputs": words},
        "3": {"class_type": "EmptyLTXVLatentVideo", "inputs": size},
        "4": {"class_type": SAMPLER, "inputs": sampler},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": "moving"}},
    }


def test_the_preview_moves_and_the_node_counts(page):
    page.evaluate("app.extensionManager.setting.set('Comfy.Execution.PreviewMethod', 'latent2rgb')")
    page.evaluate("(prompt) => app.loadApiJson(prompt, 'moving')", graph(latent_frames=5))
    page.evaluate("app.canvas.ds.scale = 0.7; app.canvas.ds.offset = [60, 140]; app.graph.arrange(60)")
    seen = page.evaluate(SEEN, SAMPLER)
    shoot(page, "sampler at work")
    assert re.fullmatch(rf"Step \d+ of {STEPS}, .*s left", seen["line"])
    assert seen["kind"] == "WEBP" and seen["moves"] == 5 and seen["width"] > 100
    page.wait_for_function(
        f"(type) => {{ {NODE} return node.widgets.find((w) => w.name === 'what ran').value.includes('Sampling: '); }}",
        arg=SAMPLER,
    )
    report = value(page, SAMPLER, "what ran")
    assert "Scheduler: ltxv, usual for LTX-Video" in report or "Scheduler: ltxv, usual for LTXV" in report
    assert f"Sampling: {STEPS} steps in " in report
