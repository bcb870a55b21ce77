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
    LIGHT,
    MARGIN,
    PALE,
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

HEAD, PANEL, FOOT = 104, 148, 48
LEFT, RIGHT, PLOT = 372, WIDTH - 92, 120
# Heights of the texts: of a measure's name, its figure, what is below it and in the notes; the least that small gets.
NAME, FIGURE, SMALL, SMALLEST, NOTE = 22, 34, 18, 13, 28
FRAME, WELL = (214, 216, 222), (241, 242, 243)
# Dark enough for figures, far apart for neighbours.
CURVES = (BLUE, RED, GREEN, PLUM, VIOLET)
# Decibels that stand for equal frames in a chart.
EQUAL_DB = 100.0


def draw_series(
    title: str,
    subtitle: str,
    series: Sequence[Series],
    notes: Sequence[str] = (),
    cuts: Sequence[int] = (),
    frozen: Sequence[int] = (),
) -> Image.Image:
    """Draw a panel for each series: the figure of the clip, the curve over the frames, the worst frame. RGB.

    title: one line.
    subtitle: one line.
    series: drawn from top to bottom, at least one.
    notes: sentences below the panels.
    cuts: frames that begin a shot, a line through all panels.
    frozen: frames that repeat the one before, a grey band.
    """
    lines = [part for note in notes for part in wrap(note, SMALL, WIDTH - 2 * MARGIN)]
    canvas = Canvas(WIDTH, HEAD + PANEL * len(series) + FOOT + NOTE * len(lines))
    canvas.title(title, (_fitted(subtitle, WIDTH - 2 * MARGIN)[0],))
    count = max(len(one.values) for one in series)
    for index, one in enumerate(series):
        _panel(canvas, one, HEAD + PANEL * index, CURVES[index % len(CURVES)], (cuts, frozen))
    y = HEAD + PANEL * len(series)
    _frame_numbers(canvas, count, y - PANEL + PLOT + 6)
    for line in lines:
        canvas.text((MARGIN, y + 14), line, INK, SMALL)
        y += NOTE
    return canvas.picture()


def _fitted(text: str, room: float) -> tuple[str, int]:
    """Return a text and the height at which it fits, cut where even the smallest does not."""
    size = next((size for size in range(SMALL, SMALLEST, -1) if length(text, size) <= room), SMALLEST)
    return wrap(text, size, room)[0], size


def _panel(canvas: Canvas, one: Series, top: int, colour: Colour, marks: tuple[Sequence[int], Sequence[int]]) -> None:
    canvas.text((MARGIN, top - 2), one.name, INK, NAME)
    unit, size = _fitted(one.unit, LEFT - MARGIN - 12)
    canvas.text((MARGIN, top + 70), unit, PALE, size)
    canvas.box((LEFT, top, RIGHT, top + PLOT), WELL, 4)
    if one.worst is None:
        canvas.text((MARGIN, top + 32), number(one.mean), PALE, NAME)
        return
    canvas.text((MARGIN, top + 26), number(one.mean), colour, FIGURE)
    _draw_marks(canvas, len(one.values), marks, top)
    low, high = _range(one)
    for level in (low, high):
        y = _height(level, low, high, top)
        canvas.line([(LEFT, y), (RIGHT, y)], FRAME, 0.7)
        canvas.text((RIGHT + 8, y), "equal" if level == EQUAL_DB else number(level), PALE, 15, "lm")
    _curve(canvas, one.beside, (low, high), top, PALE)
    for points in _curve(canvas, one.values, (low, high), top, colour):
        canvas.area([(points[0][0], top + PLOT), *points, (points[-1][0], top + PLOT)], mix(colour, WELL, 0.16))
    _curve(canvas, one.values, (low, high), top, colour)
    _mark_worst(canvas, one, (low, high), top)


def _draw_marks(canvas: Canvas, count: int, marks: tuple[Sequence[int], Sequence[int]], top: int) -> None:
    cuts, frozen = marks
    for frame in frozen:
        left, right = (_column(min(max(at, 0), count - 1), count) for at in (frame - 0.5, frame + 0.5))
        canvas.box((left, top, right, top + PLOT), FRAME)
    for frame in cuts:
        canvas.line([(_column(frame - 0.5, count), top), (_column(frame - 0.5, count), top + PLOT)], INK, 1)


def _curve(canvas: Canvas, values: Sequence[float], bounds: tuple[float, float], top: int, colour: Colour) -> list:
    """Draw a curve with its gaps; returns the points of each of its parts."""
    parts = []
    for run in _runs(values):
        points = [(_column(n, len(values)), _height(values[n], *bounds, top)) for n in run]
        canvas.line(points, colour, 2.5)
        if len(points) == 1:
            canvas.dot(points[0], 3, colour)
        parts.append(points)
    return parts


def _mark_worst(canvas: Canvas, one: Series, bounds: tuple[float, float], top: int) -> None:
    """Draw a ring at the worst frame, if one is worse than the others."""
    if len({value for value in one.values if not math.isnan(value)}) < 2:
        return
    frame, value = one.worst
    at = _column(frame, len(one.values)), _height(value, *bounds, top)
    canvas.dot(at, 5, INK)
    canvas.dot(at, 3, LIGHT)
    canvas.text((MARGIN, top + 94), f"{one.marked} {number(value)} at frame {frame}", PALE, SMALL)


def _range(one: Series) -> tuple[float, float]:
    """Return the lowest and highest level of a chart: from zero, unless that would hide what there is to see."""
    known = [_shown(value) for value in (*one.values, *one.beside) if not math.isnan(value)]
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
    canvas.text((LEFT - 10, y), "frame", PALE, 15, "ra")
    step = next(step for size in range(9) for step in (10**size, 2 * 10**size, 5 * 10**size) if count / step <= 12)
    for frame in range(0, count, step):
        canvas.text((_column(frame, count), y), str(frame), PALE, 15, "ma")


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
