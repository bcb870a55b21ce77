"""What the page runs of ours: text stays text, and nothing is fetched but from ComfyUI's own server."""

from __future__ import annotations

import re

import host
import pytest

FILES = sorted((host.ROOT / "web").glob("*.js"))
NEVER = {
    "HTML of a text": r"innerHTML|outerHTML|insertAdjacentHTML|createContextualFragment|document\.write",
    "evaluated text": r"\beval\(|new Function|setTimeout\(\s*['\"]|\bimport\(",
    "another server": r"https?://(?!www\.w3\.org/2000/svg)|\bfetch\(|XMLHttpRequest|WebSocket",
}


@pytest.mark.parametrize("what", NEVER)
def test_the_page_s_code_has_none_of(what):
    found = [file.name for file in FILES if re.search(NEVER[what], file.read_text())]
    assert FILES and not found
    # What it would look like.
    bad = ["box.innerHTML = text", "eval(text)", "fetch('https://example.org')"]
    assert re.search(NEVER[what], bad[list(NEVER).index(what)])


def test_every_file_says_what_is_in_it_and_is_short():
    for file in FILES:
        lines = file.read_text().splitlines()
        assert lines[0].startswith("// ") and len(lines) < 300, file.name
