"""Picture of an Info."""

from __future__ import annotations

from PIL import Image

from ..core.canvas import BLUE, GREEN, INK, LIGHT, MARGIN, NEUTRAL, PALE, WIDTH, Canvas, wrap
from .info import Info, step_speedup, to_text

ATTENTION, GAIN = BLUE, GREEN


def draw_info(info: Info, width: int = WIDTH) -> Image.Image:
    """Draw attention's share of a step as a bar, and how long the step is with faster attention. RGB.

    width: of the picture, in pixels.
    """
    first, *rest = to_text(info).splitlines()
    room, step = width - 2 * MARGIN, 0 if info.share is None else 46
    head, lines = wrap(first, 20, room), [part for line in rest for part in wrap(line, 15, room)]
    bars = (1.0, 2.0, 4.0, 8.0)
    canvas = Canvas(width, 40 + 32 * len(head) + 24 * len(lines) + step * len(bars) + 16)
    y = 24
    for line in head:
        canvas.text((MARGIN, y), line, INK, 20)
        y += 32
    for line in lines:
        canvas.text((MARGIN, y), line, PALE, 15)
        y += 24
    if step:
        for faster in bars:
            _step(canvas, info.share, faster, y + 8)
            y += step
    return canvas.picture()


def _step(canvas: Canvas, share: float, faster: float, y: int) -> None:
    """Draw one step: what is not attention, then attention, `faster` times as fast."""
    left, right, as_it_is = 200, canvas.size[0] - MARGIN, faster == 1.0
    middle = left + (right - left) * (1.0 - share)
    end = middle + (right - left) * share / faster
    canvas.text((MARGIN, y + 4), "attention as it is" if as_it_is else f"{faster:g}x as fast", INK, 15)
    canvas.box((left, y, middle, y + 26), NEUTRAL)
    canvas.box((middle, y, end, y + 26), ATTENTION)
    if as_it_is:
        canvas.text((right - 8, y + 4), f"attention {share:.0%}", LIGHT, 15, "ra")
    else:
        canvas.text((end + 10, y + 4), f"step {step_speedup(share, faster):.2f}x", GAIN, 15)
