"""Picture of a ScheduleTable: steps to the right, blocks downwards, a panel for each role, the noise levels above."""

from __future__ import annotations

from PIL import Image

from ..backends.registry import HOST
from ..core.canvas import INK, MARGIN, NEUTRAL, PALE, WIDTH, Canvas, legend_height
from .kernel_colours import colours_of
from .schedule import ScheduleTable

LEFT, CURVE, GAP, HEAD, COLUMNS = 96, 90, 40, 56, 3
CHOSEN = (255, 236, 179)


def draw_schedule(table: ScheduleTable, width: int = WIDTH, chosen: tuple[int, int] | None = None) -> Image.Image:
    """Draw what each block attends with at each step. RGB.

    table: a role without blocks has no panel; without roles there is a sentence instead.
    width: of the picture, in pixels.
    chosen: the first and the last of some steps, from 0, which are marked on the curve.
    """
    room, steps = width - 2 * MARGIN, len(table.sigmas) - 1
    rows = {role: max(6, min(18, 220 // max(1, len(blocks)))) for role, blocks in table.roles.items()}
    panels = sum(rows[role] * len(blocks) + GAP for role, blocks in table.roles.items())
    legend = legend_height(table.labels, room, COLUMNS)
    canvas = Canvas(width, 70 + legend + CURVE + GAP + panels + 40)
    canvas.text((MARGIN, 18), "Attention at each step", INK, 24)
    if not table.roles or steps < 1:
        canvas.text((MARGIN, HEAD), "Nothing to draw: no step, or no attention that is known.", PALE, 14)
        return canvas.picture()
    colours = colours_of(table.labels, {HOST})
    canvas.legend((MARGIN, HEAD), {label: colours[label] for label in table.labels}, room, COLUMNS)
    y = HEAD + legend + 14
    if chosen is not None:
        canvas.box((_x(chosen[0], steps, width), y - 6, _x(chosen[1] + 1, steps, width), y + CURVE), CHOSEN)
    _curve(canvas, table.sigmas, y)
    y += CURVE + GAP
    for role, blocks in table.roles.items():
        _panel(canvas, role, blocks, colours, rows[role], y)
        y += rows[role] * len(blocks) + GAP
    for step in range(0, steps, max(1, steps // 20)):
        canvas.text((_x(step + 0.5, steps, width), y - GAP + 8), str(step + 1), PALE, 12, "ma")
    canvas.text((width - MARGIN, y - 8), "step", PALE, 12, "ra")
    return canvas.picture()


def _curve(canvas: Canvas, sigmas: tuple[float, ...], y: int) -> None:
    """Draw the noise level at the begin of each step and at the end."""
    steps, top, width = len(sigmas) - 1, max(sigmas) or 1.0, canvas.size[0]
    canvas.text((MARGIN, y + 16), "sigma", INK, 14)
    canvas.text((LEFT - 8, y), f"{top:.4g}", PALE, 12, "ra")
    canvas.box((LEFT, y + CURVE, width - MARGIN, y + CURVE + 1), NEUTRAL)
    points = [(_x(i, steps, width), y + CURVE * (1 - sigma / top)) for i, sigma in enumerate(sigmas)]
    canvas.line(points, INK, 1.5)
    for point in points:
        canvas.dot(point, 2.5, INK)


def _panel(canvas: Canvas, role: str, blocks: dict, colours: dict, size: int, y: int) -> None:
    canvas.text((MARGIN, y - 22), role, INK, 14)
    for row, (block, column) in enumerate(blocks.items()):
        top = y + row * size
        for step, label in enumerate(column):
            left, right = (_x(at, len(column), canvas.size[0]) for at in (step, step + 1))
            canvas.box((left, top, right, top + size), colours[label])
        if row % max(1, len(blocks) // 6) == 0:
            canvas.text((LEFT - 8, top + size / 2), f"block {block}", PALE, 11, "rm")


def _x(step: float, steps: int, width: int) -> float:
    return LEFT + (width - LEFT - MARGIN) * step / steps
