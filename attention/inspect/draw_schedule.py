"""A picture of a Table: steps to the right, blocks downwards, a panel for each role, the noise levels above."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from ..backends.registry import HOST
from .draw_report import COLOURS, HOST_COLOUR, INK, PALE, PAPER
from .schedule import Table

LEFT, RIGHT, CURVE, GAP = 96, 28, 90, 40
CHOSEN = (255, 236, 179)


def draw_schedule(table: Table, width: int = 960, chosen: tuple[int, int] | None = None) -> Image.Image:
    """RGB. A role without blocks has no panel; a model without roles gets a sentence instead.

    chosen: the first and the last of some steps, from 0, which are marked on the curve.
    """
    labels = table.labels
    rows = {role: max(6, min(18, 220 // max(1, len(blocks)))) for role, blocks in table.roles.items()}
    panels = sum(rows[role] * len(blocks) + GAP for role, blocks in table.roles.items())
    height = 70 + 24 * -(-len(labels) // 3) + CURVE + GAP + panels + 40
    picture = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((28, 18), "Attention at each step", INK, font=ImageFont.load_default(24))
    if not table.roles or len(table.sigmas) < 2:
        canvas.text((28, 56), "Nothing to draw: no step, or no attention that is known.", PALE, font=_font())
        return picture
    y = _legend(canvas, labels, width)
    if chosen is not None:
        _mark(canvas, chosen, len(table.sigmas) - 1, y, width)
    y = _curve(canvas, table.sigmas, y, width)
    for role, blocks in table.roles.items():
        y = _panel(canvas, role, blocks, labels, rows[role], y, width)
    steps = len(table.sigmas) - 1
    for step in _ticks(steps):
        canvas.text((_x(step + 0.5, steps, width), y - GAP + 8), str(step + 1), PALE, font=_font(12), anchor="ma")
    canvas.text((width - RIGHT, y - 8), "step", PALE, font=_font(12), anchor="ra")
    return picture


def _legend(canvas, labels: tuple[str, ...], width: int) -> int:
    for i, label in enumerate(labels):
        x, y = 28 + i % 3 * ((width - 56) // 3), 56 + i // 3 * 24
        canvas.rectangle((x, y, x + 16, y + 16), fill=_colour(label, labels))
        canvas.text((x + 24, y), label, INK, font=_font())
    return 56 + 24 * -(-len(labels) // 3) + 14


def _curve(canvas, sigmas: tuple[float, ...], y: int, width: int) -> int:
    """The noise level at the begin of each step and at the end."""
    steps, top = len(sigmas) - 1, max(sigmas) or 1.0
    canvas.text((28, y), "sigma", INK, font=_font())
    canvas.text((LEFT - 8, y), f"{top:.4g}", PALE, font=_font(12), anchor="ra")
    points = [(_x(i, steps, width), y + CURVE * (1 - sigma / top)) for i, sigma in enumerate(sigmas)]
    canvas.line((LEFT, y + CURVE, width - RIGHT, y + CURVE), fill=HOST_COLOUR)
    canvas.line(points, fill=INK, width=2)
    for x, at in points:
        canvas.ellipse((x - 2, at - 2, x + 2, at + 2), fill=INK)
    return y + CURVE + GAP


def _mark(canvas, chosen: tuple[int, int], steps: int, y: int, width: int) -> None:
    left, right = _x(chosen[0], steps, width), _x(chosen[1] + 1, steps, width)
    canvas.rectangle((left, y - 6, right, y + CURVE), fill=CHOSEN)


def _panel(canvas, role: str, blocks: dict, labels: tuple[str, ...], size: int, y: int, width: int) -> int:
    canvas.text((28, y - 22), role, INK, font=_font())
    for row, (block, column) in enumerate(blocks.items()):
        top = y + row * size
        for step, label in enumerate(column):
            left, right = (_x(at, len(column), width) for at in (step, step + 1))
            canvas.rectangle((left, top, right - 1, top + size - 1), fill=_colour(label, labels))
        if row % max(1, len(blocks) // 6) == 0:
            canvas.text((LEFT - 8, top), f"block {block}", PALE, font=_font(11), anchor="ra")
    return y + len(blocks) * size + GAP


def _x(step: float, steps: int, width: int) -> float:
    return LEFT + (width - LEFT - RIGHT) * step / steps


def _ticks(steps: int) -> range:
    return range(0, steps, max(1, steps // 20))


def _colour(label: str, labels: tuple[str, ...]) -> tuple[int, int, int]:
    return HOST_COLOUR if label == HOST else COLOURS[labels.index(label) % len(COLOURS)]


def _font(size: int = 14):
    return ImageFont.load_default(size)
