"""What browser tests do with a page: look, read a widget, keep a picture."""

from __future__ import annotations

import re

import host
import pytest

try:
    from playwright.sync_api import TimeoutError as Late
except ImportError:  # browser tests are skipped then
    Late = TimeoutError

PICTURES = host.ROOT / "output" / "test"
TINY = "tiny-ltxv.safetensors"
NODE = "const node = app.graph.nodes.find((n) => n.type === type);"


@pytest.fixture
def page(browser_page):
    browser_page.set_default_timeout(240000)
    yield browser_page
    wrong = [" ".join(message) for message in browser_page.messages if message[0] == "error"]
    assert not [text for text in wrong if re.search("video.?attention", text, re.IGNORECASE)]


def reload_in(page, locale: str) -> None:
    """Loads the page anew in a language, with its last workflow: that comes late, in the place of what is there."""
    page.evaluate("(locale) => app.extensionManager.setting.set('Comfy.Locale', locale)", locale)
    page.reload()
    page.wait_for_function(host.LISTENS)
    page.wait_for_function("app.extensionManager.workflow?.activeWorkflow?.changeTracker")


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


def add_by_search(page, text: str, title: str, x: int, y: int) -> None:
    """Double click on the canvas, type, take the entry called `title`: what a user does."""
    box = page.get_by_placeholder("Add a node")
    # A page that is busy loses clicks and keys: ask again.
    for _ in range(10):
        page.mouse.dblclick(x, y)
        try:
            box.wait_for(state="visible", timeout=3000)
            break
        except Late:
            page.keyboard.press("Escape")
    box.fill(text)
    entry = page.get_by_role("option").filter(has_text=title).first
    entry.wait_for(state="visible")
    shoot(page, f"search {text}")
    entry.click()
    page.wait_for_function("(title) => app.graph.nodes.some((n) => n.title.startsWith(title))", arg=title)
    # The new node hangs on the pointer until the next click.
    box.wait_for(state="hidden")
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(300)
    page.mouse.click(x, y)
    page.wait_for_function("app.graph.nodes.every((n) => !n.flags.ghost)")


class Newcomer:
    """Somebody at the page, whose actions are counted.

    An action is a search with the choice of what it finds (the node put down included), a click on something that was
    found by looking, or one key. Looking and waiting are none.
    """

    def __init__(self, page):
        self.page, self.actions = page, 0

    def insert(self, words: str, title: str, x: int = 700, y: int = 400) -> None:
        """Searches for a node and puts it down."""
        self.actions += 1
        add_by_search(self.page, words, title, x, y)

    def click(self, locator) -> None:
        """Clicks on something."""
        self.actions += 1
        locator.first.click()

    def press(self, key: str) -> None:
        """Presses a key."""
        self.actions += 1
        self.page.keyboard.press(key)
