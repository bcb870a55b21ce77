"""How far a sampling is from the exact one, beside the noise floor: in words and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..inspect.draw_report import COLOURS, HOST_COLOUR, INK, PALE, PAPER, _font

LEFT, RIGHT, ROW = 28, 932, 74
SMALLEST = 1e-7


@dataclass(frozen=True)
class Verified:
    """One sampling. error: relative L2 of its latent against the exact one. ran: kernels. seconds: of its steps.

    psnr, ssim: of the decoded frames, NaN where none were.
    """

    name: str
    error: float
    ran: str
    seconds: float
    psnr: float = math.nan
    ssim: float = math.nan


def to_text(rows: Sequence[Verified], seconds: float, line: str) -> str:
    """A table and what it means. rows: planned, then the floor if there is one. seconds: of the exact sampling."""
    lines = [headline(rows), "", "| sampling | relative L2 of the latent | PSNR | SSIM | seconds |"]
    lines += ["| --- | --- | --- | --- | --- |", f"| exact | 0 | inf | 1 | {seconds:.2f} |"]
    lines += [
        f"| {r.name} | {r.error:.2e} | {_or_dash(r.psnr)} | {_or_dash(r.ssim, 4)} | {r.seconds:.2f} |" for r in rows
    ]
    lines += ["", *(f"{row.name} ran on {row.ran}." for row in rows), line]
    return "\n".join(lines)


def headline(rows: Sequence[Verified]) -> str:
    """One sentence."""
    planned, *floor = rows
    if not math.isfinite(planned.error):
        return "The planned or the exact latent holds NaN or Inf: nothing can be compared."
    said = f"The planned latent is {planned.error:.2g} from the exact one"
    if not floor:
        return f"{said}; no other exact kernel here gives a noise floor."
    if planned.error <= floor[0].error:
        return f"{said}, within the noise floor of {floor[0].error:.2g}."
    return f"{said}, {planned.error / floor[0].error:.3g} times the noise floor of {floor[0].error:.2g}."


def _or_dash(value: float, digits: int = 2) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def draw_verified(rows: Sequence[Verified], width: int = 960) -> Image.Image:
    """RGB picture: a bar for each sampling, its error long on a logarithmic scale from 1e-7 to 1."""
    picture = Image.new("RGB", (width, 120 + ROW * len(rows)), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((LEFT, 22), "Distance from exact attention", INK, font=_font(24))
    canvas.text((LEFT, 58), "relative L2 of the final latent, logarithmic", PALE, font=_font(14))
    bottom = 88 + ROW * len(rows)
    for power in range(round(math.log10(SMALLEST)), 1):
        x = _x(10.0**power)
        canvas.line((x, 88, x, bottom), fill=(230, 231, 235))
        canvas.text((x, bottom + 4), f"1e{power}" if power else "1", PALE, font=_font(13), anchor="ma")
    for index, row in enumerate(rows):
        y = 88 + ROW * index
        canvas.text((LEFT, y + 6), f"{row.name}: {row.error:.2e}{_frames(row)}", INK, font=_font(16))
        colour = HOST_COLOUR if index else COLOURS[0]
        canvas.rectangle((LEFT, y + 34, max(LEFT + 2, _x(row.error)), y + 58), fill=colour)
    return picture


def _frames(row: Verified) -> str:
    return "" if math.isnan(row.psnr) else f", PSNR {row.psnr:.1f} dB, SSIM {row.ssim:.4f}"


def _x(error: float) -> float:
    share = math.log10(max(error, SMALLEST) / SMALLEST) / -math.log10(SMALLEST) if math.isfinite(error) else 1.0
    return LEFT + (RIGHT - LEFT) * min(1.0, share)
