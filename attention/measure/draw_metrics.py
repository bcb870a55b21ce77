"""Pictures of measured clips: figures over time, and two frames side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from ..core.canvas import (
    BLUE,
    GREEN,
    INK,
    MARGIN,
    PALE,
    PAPER,
    PLUM,
    RED,
    VIOLET,
    WIDTH,
    Canvas,
    Colour,
    length,
    mix,
    wrap,
)  # fmt: skip
from .frames import to_picture
from .series import Series, number

HEAD, PANEL, FOOT = 96, 124, 44
LEFT, RIGHT, PLOT = 330, WIDTH - 72, 92
FRAME, WELL = (214, 216, 222), (241, 242, 243)
# Dark enough for figures, far apart for neighbours.
CURVES = (BLUE, RED, GREEN, PLUM, VIOLET)
# Decibels that stand for equal frames in a chart.
EQUAL_DB = 100.0


def draw_series(title: str, subtitle: str, series: Sequence[Series], notes: Sequence[str] = ()) -> Image.Image:
    """Draw a panel for each series: the figure of the clip, the curve over the frames, the worst frame. RGB.

    title: one line.
    subtitle: one line.
    series: drawn from top to bottom, at least one.
    notes: sentences below the panels.
    """
    lines = [part for note in notes for part in wrap(note, 14, WIDTH - 2 * MARGIN)]
    canvas = Canvas(WIDTH, HEAD + PANEL * len(series) + FOOT + 24 * len(lines))
    canvas.title(title, (subtitle,))
    for index, one in enumerate(series):
        _panel(canvas, one, HEAD + PANEL * index, CURVES[index % len(CURVES)])
    y = HEAD + PANEL * len(series)
    _frame_numbers(canvas, max(len(one.values) for one in series), y - PANEL + PLOT + 6)
    for line in lines:
        canvas.text((MARGIN, y + 8), line, INK, 14)
        y += 24
    return canvas.picture()


def _panel(canvas: Canvas, one: Series, top: int, colour: Colour) -> None:
    canvas.text((MARGIN, top + 2), one.name, INK, 17)
    canvas.text((MARGIN, top + 62), one.unit, PALE, 13)
    canvas.box((LEFT, top, RIGHT, top + PLOT), WELL, 4)
    if one.worst is None:
        canvas.text((MARGIN, top + 30), number(one.mean), PALE, 20)
        return
    canvas.text((MARGIN, top + 26), number(one.mean), colour, 26)
    low, high = _range(one)
    for level in (low, high):
        y = _height(level, low, high, top)
        canvas.line([(LEFT, y), (RIGHT, y)], FRAME, 0.7)
        canvas.text((RIGHT + 8, y), "equal" if level == EQUAL_DB else number(level), PALE, 12, "lm")
    for run in _runs(one.values):
        points = [(_column(n, len(one.values)), _height(one.values[n], low, high, top)) for n in run]
        canvas.area([(points[0][0], top + PLOT), *points, (points[-1][0], top + PLOT)], mix(colour, WELL, 0.16))
        canvas.line(points, colour, 2)
        if len(points) == 1:
            canvas.dot(points[0], 2.5, colour)
    _mark_worst(canvas, one, (low, high), top)


def _mark_worst(canvas: Canvas, one: Series, bounds: tuple[float, float], top: int) -> None:
    """Draw a ring at the worst frame, if one is worse than the others."""
    if len({value for value in one.values if not math.isnan(value)}) < 2:
        return
    frame, value = one.worst
    at = _column(frame, len(one.values)), _height(value, *bounds, top)
    canvas.dot(at, 4.5, INK)
    canvas.dot(at, 2.5, PAPER)
    canvas.text((MARGIN, top + 80), f"worst {number(value)} at frame {frame}", PALE, 13)


def _range(one: Series) -> tuple[float, float]:
    """Return the lowest and highest level of a chart: from zero, unless that would hide what there is to see."""
    known = [_shown(value) for value in one.values if not math.isnan(value)]
    low, high = min(known), max(known)
    if not one.lowest_is_worst or not 0.5 * high < low < high:
        low = min(0.0, low)
    return low, max(high, low + 1e-6)


def _shown(value: float) -> float:
    return min(value, EQUAL_DB)


def _height(value: float, low: float, high: float, top: int) -> float:
    return top + PLOT - 10 - (PLOT - 20) * (_shown(value) - low) / (high - low)


def _column(frame: int, count: int) -> float:
    return LEFT + 12 + (RIGHT - LEFT - 24) * frame / max(1, count - 1)


def _runs(values: Sequence[float]) -> list[list[int]]:
    """List the frames with a value, those that follow each other together."""
    runs: list[list[int]] = []
    for frame, value in enumerate(values):
        if math.isnan(value):
            continue
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _frame_numbers(canvas: Canvas, count: int, y: float) -> None:
    canvas.text((LEFT - 10, y), "frame", PALE, 12, "ra")
    step = next(step for size in range(9) for step in (10**size, 2 * 10**size, 5 * 10**size) if count / step <= 12)
    for frame in range(0, count, step):
        canvas.text((_column(frame, count), y), str(frame), PALE, 12, "ma")


def draw_pair(reference: Tensor, images: Tensor, index: int) -> Image.Image:
    """Draw a frame of two clips side by side, and their difference made visible. RGB.

    reference: a clip (T, H, W, C), RGB in 0..1.
    images: another one of the same size.
    index: of the frame.
    """
    first, second = (to_picture(clip, index, "cpu")[0].movedim(0, -1) for clip in (reference, images))
    away = (first - second).abs()
    gain = 1.0 / max(away.max().item(), 1e-6)
    height, width = away.shape[:2]
    names = f"reference, frame {index}", "the other", f"difference x {gain:.3g}" if away.any() else "no difference"
    # Small frames stand as far apart as their names need.
    column = max(width, *(math.ceil(length(name, 15)) for name in names))
    canvas = Canvas(3 * column + 4 * 8, height + 40)
    for index, (name, part) in enumerate(zip(names, (first, second, away * gain))):
        left = 8 + index * (column + 8)
        pixels = (part.clamp(0, 1) * 255).round().byte().numpy()
        canvas.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, 32))
        canvas.text((left, 8), name)
    return canvas.picture()
