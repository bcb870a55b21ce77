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
    NAME,
    PALE,
    PLUM,
    RED,
    TEXT,
    VIOLET,
    WIDTH,
    Canvas,
    Colour,
    length,
    mix,
    type_for,
)  # fmt: skip
from .frames import to_picture
from .series import Series, number

# Of a chart: its left and right end, its height, the height of the clip's figure above it, from one chart to the next.
LEFT, RIGHT, PLOT, FIGURE, APART = MARGIN, WIDTH - 116, 110, 32, 26
# Between and around the frames of a pair, and the least height of the names above them.
GAP, LEAST_TYPE = 8, 15
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
    canvas, count = Canvas(WIDTH), max(len(one.values) for one in series)
    y = canvas.title(title, [subtitle])
    for index, one in enumerate(series):
        y = _panel(canvas, one, y, CURVES[index % len(CURVES)], (cuts, frozen)) + APART
    _frame_numbers(canvas, count, y - APART + 4)
    return canvas.picture(canvas.lines((MARGIN, y + 12), notes, INK) + 12)


def _panel(canvas: Canvas, one: Series, y: float, colour: Colour, marks: tuple[Sequence[int], Sequence[int]]) -> float:
    """Draw one measure: its words, and below them its chart; return where it ends."""
    known = one.worst is not None
    canvas.text((MARGIN, y + FIGURE), one.name, INK, NAME, "ls")
    canvas.text((WIDTH - MARGIN, y + FIGURE), number(one.mean), *((colour, FIGURE) if known else (PALE, NAME)), "rs")
    marked = [f"{one.marked} {number(one.worst[1])} at frame {one.worst[0]}"] if _has_worst(one) else []
    top = canvas.lines((MARGIN, y + FIGURE + 8), [", ".join([one.unit, *marked])]) + 8
    canvas.box((LEFT, top, RIGHT, top + PLOT), WELL, 4)
    if not known:
        return top + PLOT
    _draw_marks(canvas, len(one.values), marks, top)
    low, high = _range(one)
    for level in (low, high):
        y = _height(level, low, high, top)
        canvas.line([(LEFT, y), (RIGHT, y)], FRAME, 0.7)
        canvas.text((RIGHT + 8, y), "equal" if level == EQUAL_DB else number(level), PALE, TEXT, "lm")
    _curve(canvas, one.beside, (low, high), top, PALE)
    for points in _curve(canvas, one.values, (low, high), top, colour):
        canvas.area([(points[0][0], top + PLOT), *points, (points[-1][0], top + PLOT)], mix(colour, WELL, 0.16))
    _curve(canvas, one.values, (low, high), top, colour)
    if _has_worst(one):
        at = _column(one.worst[0], len(one.values)), _height(one.worst[1], low, high, top)
        canvas.dot(at, 5, INK)
        canvas.dot(at, 3, LIGHT)
    return top + PLOT


def _has_worst(one: Series) -> bool:
    """Tell whether one frame is worse than the others."""
    return len({value for value in one.values if not math.isnan(value)}) > 1


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
    canvas.text((WIDTH - MARGIN, y), "frame", PALE, TEXT, "ra")
    room = (RIGHT - LEFT) / length(f"{count} ", TEXT)
    step = next(step for size in range(9) for step in (10**size, 2 * 10**size, 5 * 10**size) if count / step <= room)
    for frame in range(0, count, step):
        canvas.text((_column(frame, count), y), str(frame), PALE, TEXT, "ma")


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
    column, size = _column_of_pair(width, names)
    canvas = Canvas(3 * column + 4 * GAP, height + 2 * size + GAP)
    for index, (name, part) in enumerate(zip(names, (first, second, away * gain))):
        left = GAP + index * (column + GAP)
        pixels = (part.clamp(0, 1) * 255).round().byte().numpy()
        canvas.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, 2 * size))
        canvas.text((left, size), name, INK, size, "lm")
    return canvas.picture()


def _column_of_pair(width: int, names: Sequence[str]) -> tuple[int, int]:
    """Return how wide a column is above which its name can be read, `width` at least, and how high the names are."""
    # Names grow with the picture, but to less than a third of it: a few turns suffice.
    for _ in range(99):
        size = max(LEAST_TYPE, type_for(3 * width + 4 * GAP))
        needed = max(math.ceil(length(name, size)) for name in names)
        if needed <= width:
            break
        width = needed
    return width, size
