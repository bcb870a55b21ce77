"""Picture of a ScheduleTable: steps to the right, blocks downwards, a panel for each role, the noise levels above."""

from __future__ import annotations

import math

from PIL import Image

from ..backends.registry import HOST
from ..core.canvas import INK, LINE, MARGIN, NEUTRAL, PALE, TEXT, WIDTH, Canvas, length
from ..forecast.record import COMPUTED
from .kernel_colours import colours_of
from .schedule import ScheduleTable

LEFT, CURVE, COLUMNS = 124, 96, 3
# Rows of a panel: their least and greatest height, and that of a whole panel where both leave a choice.
ROWS = 6, 24, 280
CHOSEN = (255, 236, 179)


def draw_schedule(table: ScheduleTable, chosen: tuple[int, int] | None = None) -> Image.Image:
    """Draw what each block attends with at each step. RGB.

    table: a role without blocks has no panel; without roles and steps there is a sentence instead.
    chosen: the first and the last of some steps, from 0, which are marked on the curve.
    """
    canvas, steps = Canvas(WIDTH), len(table.sigmas) - 1
    if not (table.roles or table.steps) or steps < 1:
        nothing = "Nothing to draw: no step, or no attention that is known."
        return canvas.picture(canvas.title("Attention at each step", [nothing]) + 20)
    y, colours = canvas.title("Attention at each step"), colours_of(table.labels, {HOST})
    legend = {label: colours[label] for label in table.labels}
    y = canvas.legend((MARGIN, y), legend, WIDTH - 2 * MARGIN, COLUMNS) + 20
    if chosen is not None:
        canvas.box((_x(chosen[0], steps), y - 6, _x(chosen[1] + 1, steps), y + CURVE), CHOSEN)
    _curve(canvas, table.sigmas, y)
    y += CURVE + 16
    if table.steps:
        y = _panel(canvas, "steps", {None: table.steps}, colours, y)
    for role, blocks in table.roles.items():
        y = _panel(canvas, role, blocks, colours, y)
    apart = length(f"{steps} ", TEXT)
    for step in range(0, steps, max(1, math.ceil(apart * steps / (WIDTH - LEFT - MARGIN)))):
        canvas.text((_x(step + 0.5, steps), y), str(step + 1), PALE, TEXT, "ma")
    canvas.text((MARGIN, y), "step", PALE)
    return canvas.picture(y + LINE + 20)


def _curve(canvas: Canvas, sigmas: tuple[float, ...], y: float) -> None:
    """Draw the noise level at the begin of each step and at the end."""
    steps, top = len(sigmas) - 1, max(sigmas) or 1.0
    canvas.text((LEFT - 10, y - 4), f"{top:.3g}", PALE, TEXT, "ra")
    canvas.text((LEFT - 10, y - 4 + LINE), "sigma", INK, TEXT, "ra")
    canvas.box((LEFT, y + CURVE, WIDTH - MARGIN, y + CURVE + 1), NEUTRAL)
    points = [(_x(i, steps), y + CURVE * (1 - sigma / top)) for i, sigma in enumerate(sigmas)]
    canvas.line(points, INK, 1.5)
    for point in points:
        canvas.dot(point, 2.5, INK)


def _panel(canvas: Canvas, role: str, blocks: dict, colours: dict, y: float) -> float:
    """Draw one role, or the steps as a whole, which have no block; return where it ends."""
    least, most, whole = ROWS
    size = max(least, min(most, whole // max(1, len(blocks))))
    canvas.text((MARGIN, y), role)
    y += LINE + 2
    for row, (block, column) in enumerate(blocks.items()):
        top = y + row * size
        for step, label in enumerate(column):
            left, right = (_x(at, len(column)) for at in (step, step + 1))
            # A step that is computed is what the rows below show.
            if label != COMPUTED:
                canvas.box((left, top, right, top + size), colours[label])
        if block is not None and row % math.ceil((TEXT + 4) / size) == 0:
            canvas.text((LEFT - 10, top + max(size, TEXT) / 2), f"block {block}", PALE, TEXT, "rm")
    return y + max(size * len(blocks), TEXT) + 12


def _x(step: float, steps: int) -> float:
    return LEFT + (WIDTH - LEFT - MARGIN) * step / steps
