"""What a user types into the real search box finds our nodes, in the first places: the words are in search_words.json.

How the page ranks, read in its source (fuseUtil.ts and nodeDefStore.ts, alike in front end 1.47 and 1.58) and seen
here: Fuse takes what agrees roughly with the id, the name or an alias within its first letters. That is put in order
by how the word stands in the id or the name alone: equal, at the start, one of its words, a part of it. All that have
it as an alias only come after these, those much used before others, then those whose id is about as long as the word.
So a word that is ours stands in a name, and a word that 40 of the host's nodes begin with cannot bring us far.
"""

from __future__ import annotations

import json
from pathlib import Path

import host
import pytest
from pages import reload_in

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

LOCALES = host.ROOT / "locales"
# How far down -> word -> which of our nodes answer it; one of them is enough.
WORDS = json.loads((Path(__file__).parent / "search_words.json").read_text(encoding="utf-8"))
VISIBLE = """() => { const list = document.querySelector('[role=listbox]').getBoundingClientRect();
    return [...document.querySelectorAll('[role=option]')].filter(
        (entry) => entry.getBoundingClientRect().bottom <= list.bottom).length; }"""


@pytest.fixture
def box(browser_page):
    """The search box, open."""
    found = browser_page.get_by_placeholder("Add a node")
    for _ in range(10):
        browser_page.mouse.dblclick(800, 600)
        browser_page.wait_for_timeout(500)
        if found.count():
            return found
    raise AssertionError("a double click on the canvas opened no search box")


def hits(page, box, word: str) -> list[str]:
    """The names that the list shows for a word, from the top."""
    box.fill(word)
    page.wait_for_timeout(120)
    entries = page.get_by_role("option").all_inner_texts()
    return [entry.split("\n")[0] for entry in entries]


def misses(page, box, words: dict, names: dict, places: int) -> list[str]:
    """A sentence for each word whose nodes are not within so many places. names: id -> what the page calls it."""
    found = []
    for word, nodes in words.items():
        wanted = {names[f"VideoAttention{node}"] for node in nodes}
        shown = hits(page, box, word)
        if not wanted & set(shown[:places]):
            at = {name: shown.index(name) + 1 for name in wanted if name in shown}
            found.append(f"{word}: {at or 'none'} of {len(shown)}, first {shown[:places]}")
    return found


def names_in(language: str) -> dict[str, str]:
    """Node id -> the name that the page shows."""
    texts = json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))
    return {name: spec["display_name"] for name, spec in texts.items()}


def test_words_find_our_nodes(browser_page, box):
    names = names_in("en")
    assert len(hits(browser_page, box, "video")) > 40
    page = browser_page.evaluate(VISIBLE)
    assert 8 <= page <= 20
    for kind, places in (("first two", 2), ("first page", page), ("listed", 64)):
        wrong = misses(browser_page, box, WORDS[kind], names, places)
        assert not wrong, f"not in the {kind}:\n" + "\n".join(wrong)


def test_what_nobody_means_does_not_find_them(browser_page, box):
    """A list that shows us for every word would pass the test above."""
    for word in ("background", "mask", "lora", "checkpoint"):
        shown = hits(browser_page, box, word)
        assert shown and not [name for name in shown[:10] if name.startswith("Video Attention")], word


def test_words_find_our_nodes_where_the_page_speaks_chinese(browser_page):
    try:
        reload_in(browser_page, "zh")
        for _ in range(30):
            browser_page.mouse.dblclick(800, 600)
            browser_page.wait_for_timeout(700)
            if browser_page.locator("[role=listbox]").count():
                break
        box = browser_page.locator("xpath=//*[@role='listbox']/preceding::input[1]")
        wrong = misses(browser_page, box, WORDS["first two, page in Chinese"], names_in("zh"), 2)
        assert not wrong, "\n".join(wrong)
    finally:
        browser_page.evaluate("app.extensionManager.setting.set('Comfy.Locale', 'en')")
