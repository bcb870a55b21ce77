"""Picture of an Info."""

from __future__ import annotations

from PIL import Image

from ..core.canvas import BLUE, GREEN, INK, LIGHT, LINE, MARGIN, NAME, NEUTRAL, TEXT, WIDTH, Canvas, length, wrap
from .info import Info, step_speedup, to_text

ATTENTION, GAIN = BLUE, GREEN
# Where the bars begin, their height, and from one to the next.
LEFT, BAR, STEP = 212, 30, 46
FASTER = (1.0, 2.0, 4.0, 8.0)


def draw_info(info: Info) -> Image.Image:
    """Draw attention's share of a step as a bar, and how long the step is with faster attention. RGB."""
    first, *rest = to_text(info).splitlines()
    canvas, y = Canvas(WIDTH), 24.0
    for line in wrap(first, NAME, WIDTH - 2 * MARGIN):
        canvas.text((MARGIN, y), line, INK, NAME)
        y += LINE + 4
    y = canvas.lines((MARGIN, y + 4), rest)
    if info.share is not None:
        for faster in FASTER:
            _step(canvas, info.share, faster, y + 10)
            y += STEP
    return canvas.picture(y + 24)


def _step(canvas: Canvas, share: float, faster: float, y: float) -> None:
    """Draw one step: what is not attention, then attention, `faster` times as fast."""
    right, as_it_is = canvas.size[0] - MARGIN, faster == 1.0
    middle = LEFT + (right - LEFT) * (1.0 - share)
    end = middle + (right - LEFT) * share / faster
    canvas.text((MARGIN, y + BAR / 2), "attention as it is" if as_it_is else f"{faster:g}x as fast", INK, TEXT, "lm")
    canvas.box((LEFT, y, middle, y + BAR), NEUTRAL)
    canvas.box((middle, y, end, y + BAR), ATTENTION)
    words = f"attention {share:.0%}" if as_it_is else f"step {step_speedup(share, faster):.2f}x"
    wide = length(words, TEXT) + 16
    # Where there is room: in attention's part, behind the step, else in its other part.
    if as_it_is and wide <= end - middle:
        canvas.text((end - 8, y + BAR / 2), words, LIGHT, TEXT, "rm")
    elif not as_it_is and wide <= right - end:
        canvas.text((end + 10, y + BAR / 2), words, GAIN, TEXT, "lm")
    else:
        canvas.text((middle - 8, y + BAR / 2), words, INK, TEXT, "rm")
