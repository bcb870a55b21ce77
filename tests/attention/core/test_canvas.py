"""What pictures are drawn on: exact boxes, smooth lines, text that stays in its room, legends that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attention.core.canvas import (
    BLUE,
    INK,
    KEY,
    PAPER,
    ROW,
    TEXT,
    Canvas,
    legend_height,
    legend_places,
    length,
    mix,
    wrap,
)


def pixels(canvas: Canvas) -> np.ndarray:
    return np.asarray(canvas.picture()).astype(int)


def test_a_box_is_exactly_as_large_as_it_says():
    canvas = Canvas(40, 30)
    canvas.box((3, 5, 17, 20), BLUE)
    found = (pixels(canvas) == BLUE).all(-1)
    assert found[5:20, 3:17].all() and found.sum() == 15 * 14
    assert (pixels(canvas)[~found] == PAPER).all()


def test_a_part_of_a_pixel_is_a_shade():
    canvas = Canvas(10, 10)
    canvas.box((2, 2, 4 + 1 / 3, 8), BLUE)
    assert tuple(pixels(canvas)[5, 4]) == pytest.approx(mix(BLUE, PAPER, 1 / 3), abs=1)


def test_an_empty_box_leaves_no_trace():
    canvas = Canvas(10, 10)
    canvas.box((5, 2, 5, 8), BLUE)
    canvas.box((5, 8, 9, 2), BLUE, 3)
    assert (pixels(canvas) == PAPER).all()


def test_shapes_have_no_steps():
    """Every row of a slanted line's edge passes through shades, and a circle weighs what its area says."""
    canvas = Canvas(60, 60)
    canvas.line([(5, 10), (55, 22)], INK, 2)
    assert len({tuple(colour) for colour in pixels(canvas).reshape(-1, 3)}) > 6
    canvas = Canvas(60, 60)
    canvas.dot((30, 30), 10, (0, 0, 0))
    covered = (PAPER[0] - pixels(canvas)[..., 0]).sum() / PAPER[0]
    assert covered == pytest.approx(np.pi * 100, rel=0.02)
    shares = (PAPER[0] - pixels(canvas)[..., 0]) / PAPER[0]
    middle = [(grid * shares).sum() / covered for grid in np.mgrid[:60, :60] + 0.5]
    assert middle == pytest.approx([30, 30], abs=0.1)


def test_what_lies_under_a_drawing_stays():
    ground = Image.fromarray(np.random.default_rng(0).integers(0, 255, (31, 23, 3), dtype=np.uint8))
    canvas = Canvas.over(ground)
    assert canvas.size == (23, 31) and canvas.picture().tobytes() == ground.tobytes()
    canvas.ring((10, 10), 5, INK, 2)
    changed = (pixels(canvas) != np.asarray(ground)).any(-1)
    assert changed[:, 16:].sum() == changed[16:].sum() == 0 < changed.sum()


WORDS = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60), max_size=12)


@given(WORDS, st.integers(30, 400))
def test_wrapped_text_stays_in_its_room(words, room):
    lines = wrap(" ".join(words), 14, room)
    assert all(length(line, 14) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == "".join(words)
    assert wrap("", 14, room) == [""]


@given(WORDS, st.integers(60, 900), st.integers(0, 4))
def test_entries_of_a_legend_do_not_overlap(names, room, columns):
    places = legend_places(names, room, columns)
    # A name that is longer than the legend takes several rows.
    lines = [wrap(name, TEXT, room - KEY) for name in names]
    ends = [x + KEY + max(length(line, TEXT) for line in told) for (x, _), told in zip(places, lines, strict=True)]
    for one, ((x, y), end) in enumerate(zip(places, ends, strict=True)):
        assert end <= room or not x or len(names) == 1
        later = [other for other, row in places[one + 1 :] if row == y]
        assert all(other >= end for other in later)
    lowest = [y + ROW * len(told) for (_, y), told in zip(places, lines, strict=True)]
    assert legend_height(names, room, columns) == max(lowest, default=0)
    rows = [y for _, y in places]
    assert all(below == y or below >= low for y, low, below in zip(rows, lowest, rows[1:]))
