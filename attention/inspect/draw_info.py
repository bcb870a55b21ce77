"""Picture of an Info."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw

from .draw_report import HOST_COLOUR, INK, PALE, PAPER, _font
from .info import Info, step_speedup, to_text

ATTENTION = (29, 105, 150)
GAIN = (15, 133, 84)


def draw_info(info: Info, width: int = 960) -> Image.Image:
    """RGB picture: attention's share of a step as a bar, and how long the step is with faster attention."""
    lines = [part for line in to_text(info).splitlines() for part in textwrap.wrap(line, 118) or [""]]
    bars = [] if info.share is None else [1.0, 2.0, 4.0, 8.0]
    picture = Image.new("RGB", (width, 40 + 24 * len(lines) + 46 * len(bars) + 24), PAPER)
    canvas = ImageDraw.Draw(picture)
    y = 24
    for row, line in enumerate(lines):
        canvas.text((28, y), line, PALE if row else INK, font=_font(15 if row else 20))
        y += 24 if row else 32
    for faster in bars:
        y = _step(canvas, info.share, faster, y + 8, width)
    return picture


def _step(canvas, share: float, faster: float, y: int, width: int) -> int:
    """One step: what is not attention, then attention, `faster` times as fast."""
    left, room = 200, width - 200 - 28
    name = "attention as it is" if faster == 1.0 else f"{faster:g}x as fast"
    rest, attention = room * (1.0 - share), room * share / faster
    canvas.text((28, y + 4), name, INK, font=_font(15))
    canvas.rectangle((left, y, left + rest, y + 26), fill=HOST_COLOUR)
    canvas.rectangle((left + rest, y, left + rest + attention, y + 26), fill=ATTENTION)
    note = f"attention {share:.0%}" if faster == 1.0 else f"step {step_speedup(share, faster):.2f}x"
    inside = faster == 1.0
    canvas.text(
        (width - 36 if inside else left + rest + attention + 10, y + 4), note, PAPER if inside else GAIN,
        font=_font(15), anchor="ra" if inside else "la",
    )  # fmt: skip
    return y + 38
