"""Pictures of measured clips: figures over time, and two frames side by side."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..inspect.draw_report import COLOURS, INK, PALE, PAPER
from .frames import to_picture
from .series import Series, number

# Drawn larger and reduced: Pillow's lines have steps otherwise.
FINE = 3
WIDTH, HEAD, PANEL, FOOT, MARGIN = 960, 96, 124, 44, 28
LEFT, RIGHT, PLOT = 330, WIDTH - 72, 92
FRAME, WELL = (214, 216, 222), (241, 242, 243)
# Dark enough for figures, far apart for neighbours.
CURVES = tuple(COLOURS[index] for index in (0, 3, 2, 5, 8))
# Decibels that stand for equal frames in a chart.
EQUAL_DB = 100.0


def draw_series(title: str, subtitle: str, series: Sequence[Series], notes: Sequence[str] = ()) -> Image.Image:
    """RGB picture: a panel for each series with the figure of the clip, the curve over the frames, the worst frame."""
    lines = [part for note in notes for part in textwrap.wrap(note, 118)]
    height = HEAD + PANEL * len(series) + FOOT + 24 * len(lines)
    picture = Image.new("RGB", (WIDTH * FINE, height * FINE), PAPER)
    pen = _Pen(ImageDraw.Draw(picture))
    pen.text((MARGIN, 22), title, INK, 24)
    pen.text((MARGIN, 58), subtitle, PALE, 15)
    for index, one in enumerate(series):
        _panel(pen, one, HEAD + PANEL * index, CURVES[index % len(CURVES)])
    y = HEAD + PANEL * len(series)
    _frame_numbers(pen, max(len(one.values) for one in series), y - PANEL + PLOT + 6)
    for line in lines:
        pen.text((MARGIN, y + 8), line, INK, 14)
        y += 24
    return picture.resize((WIDTH, height), Image.Resampling.LANCZOS)


class _Pen:
    """Draws on a canvas FINE times as large in the coordinates of the finished picture."""

    def __init__(self, canvas: ImageDraw.ImageDraw):
        self.canvas = canvas

    def text(self, at, text: str, colour, size: int, anchor: str = "la") -> None:
        font = ImageFont.load_default(size * FINE)
        self.canvas.text([FINE * x for x in at], text, fill=colour, font=font, anchor=anchor)

    def box(self, corners, fill, radius: float = 4) -> None:
        self.canvas.rounded_rectangle([FINE * x for x in corners], radius * FINE, fill=fill)

    def line(self, points, colour, width: float) -> None:
        scaled = [(FINE * x, FINE * y) for x, y in points]
        self.canvas.line(scaled, fill=colour, width=round(width * FINE), joint="curve")

    def area(self, points, colour) -> None:
        self.canvas.polygon([(FINE * x, FINE * y) for x, y in points], fill=colour)

    def dot(self, at, colour, radius: float) -> None:
        x, y = at
        self.canvas.ellipse([FINE * v for v in (x - radius, y - radius, x + radius, y + radius)], fill=colour)


def _panel(pen: _Pen, one: Series, top: int, colour) -> None:
    pen.text((MARGIN, top + 2), one.name, INK, 17)
    pen.text((MARGIN, top + 62), one.unit, PALE, 13)
    pen.box((LEFT, top, RIGHT, top + PLOT), WELL)
    if one.worst is None:
        pen.text((MARGIN, top + 30), number(one.mean), PALE, 20)
        return
    pen.text((MARGIN, top + 26), number(one.mean), colour, 26)
    low, high = _range(one)
    for level in (low, high):
        y = _height(level, low, high, top)
        pen.line([(LEFT, y), (RIGHT, y)], FRAME, 0.7)
        pen.text((RIGHT + 8, y), "equal" if level == EQUAL_DB else number(level), PALE, 12, "lm")
    for run in _runs(one.values):
        points = [(_column(n, len(one.values)), _height(one.values[n], low, high, top)) for n in run]
        pen.area([(points[0][0], top + PLOT), *points, (points[-1][0], top + PLOT)], _faint(colour))
        pen.line(points, colour, 2)
        if len(points) == 1:
            pen.dot(points[0], colour, 2.5)
    _mark_worst(pen, one, (low, high), top)


def _mark_worst(pen: _Pen, one: Series, bounds: tuple[float, float], top: int) -> None:
    """A ring at the worst frame, if one is worse than the others."""
    if len({value for value in one.values if not math.isnan(value)}) < 2:
        return
    frame, value = one.worst
    at = _column(frame, len(one.values)), _height(value, *bounds, top)
    pen.dot(at, INK, 4.5)
    pen.dot(at, PAPER, 2.5)
    pen.text((MARGIN, top + 80), f"worst {number(value)} at frame {frame}", PALE, 13)


def _range(one: Series) -> tuple[float, float]:
    """Lowest and highest level of a chart: from zero, unless that would hide what there is to see."""
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
    """Frames with a value, those that follow each other together."""
    runs: list[list[int]] = []
    for frame, value in enumerate(values):
        if math.isnan(value):
            continue
        if runs and runs[-1][-1] == frame - 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _frame_numbers(pen: _Pen, count: int, y: float) -> None:
    pen.text((LEFT - 10, y), "frame", PALE, 12, "ra")
    step = next(step for size in range(9) for step in (10**size, 2 * 10**size, 5 * 10**size) if count / step <= 12)
    for frame in range(0, count, step):
        pen.text((_column(frame, count), y), str(frame), PALE, 12, "ma")


def _faint(colour) -> tuple[int, ...]:
    return tuple(round(0.16 * part + 0.84 * ground) for part, ground in zip(colour, WELL))


def draw_pair(reference: Tensor, images: Tensor, index: int) -> Image.Image:
    """RGB picture: frame `index` of two clips (T, H, W, C) side by side, and their difference made visible."""
    first, second = (to_picture(clip, index, "cpu")[0].movedim(0, -1) for clip in (reference, images))
    away = (first - second).abs()
    gain = 1.0 / max(away.max().item(), 1e-6)
    height, width = away.shape[:2]
    names = f"reference, frame {index}", "the other", f"difference x {gain:.3g}" if away.any() else "no difference"
    picture = Image.new("RGB", (3 * width + 4 * 8, height + 40), PAPER)
    canvas = ImageDraw.Draw(picture)
    for video_span, (name, part) in enumerate(zip(names, (first, second, away * gain))):
        left = 8 + video_span * (width + 8)
        pixels = (part.clamp(0, 1) * 255).round().byte().numpy()
        picture.paste(Image.fromarray(np.ascontiguousarray(pixels)), (left, 32))
        canvas.text((left, 8), name, INK, font=ImageFont.load_default(15))
    return picture
