"""What browser tests do with a page: look, read a widget, keep a picture."""

from __future__ import annotations

import re

import host
import pytest

PICTURES = host.ROOT / "output" / "test"
TINY = "tiny-ltxv.safetensors"
NODE = "const node = app.graph.nodes.find((n) => n.type === type);"


@pytest.fixture
def page(browser_page):
    browser_page.set_default_timeout(240000)
    yield browser_page
    wrong = [" ".join(message) for message in browser_page.messages if message[0] == "error"]
    assert not [text for text in wrong if re.search("video.?attention", text, re.IGNORECASE)]


def shoot(page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.evaluate("app.canvas.draw(true, true)")
    page.screenshot(path=PICTURES / f"{name}.png")


def value(page, node_type: str, widget: str):
    return page.evaluate(
        f"([type, name]) => {{ {NODE} return node.widgets.find((w) => w.name === name).value; }}", [node_type, widget]
    )


def looking(steps: int) -> dict:
    """A prompt: the tiny model behind Backend, sampled, reported, looked into."""
    nodes = {
        "1": ("UNETLoader", {"unet_name": TINY, "weight_dtype": "default"}),
        "2": ("VideoAttentionBackend", {"model": ["1", 0], "backend": "sdpa"}),
        "3": ("VideoAttentionDemoPrompt", {"colour": "red", "shape": "disc", "direction": "right"}),
        "4": ("EmptyLTXVLatentVideo", {"width": 128, "height": 96, "length": 9, "batch_size": 1}),
        "5": (
            "KSampler",
            {
                "model": ["2", 0], "positive": ["3", 0], "negative": ["3", 1], "latent_image": ["4", 0], "seed": 1,
                "steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
            },
        ),
        "6": ("VideoAttentionReport", {"latent": ["5", 0]}),
        "7": ("VideoAttentionMaps", {"model": ["2", 0], "positive": ["3", 0], "latent": ["6", 0]}),
    }  # fmt: skip
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}
