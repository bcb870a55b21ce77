"""Picture of what Verify found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from ..core.canvas import BLUE, INK, LINE, MARGIN, NEUTRAL, PALE, RED, RULE, TEXT, WIDTH, Canvas
from ..core.peak_memory import in_mib
from .verify import VerifiedSampling

BAR, APART = 24, 18
# Errors below the first are drawn at the left edge, those above the second at the right.
SMALLEST, LARGEST = 1e-7, 1.0


def draw_verified(rows: Sequence[VerifiedSampling], budget: float = 0.0) -> Image.Image:
    """Draw a bar for each sampling, its error long on a logarithmic scale from 1e-7 to 1. RGB.

    rows: planned, then the noise floor if there is one.
    budget: of the plan, a line through each bar; 0 for none.
    """
    canvas = Canvas(WIDTH)
    top = canvas.title("Distance from exact attention", ["relative L2 of the final latent, logarithmic"])
    top += LINE * bool(budget)
    y = top + 8
    ends = []
    for row in rows:
        y = canvas.lines((MARGIN, y), [f"{row.name}: {row.error:.2e}{_frames(row)}"], INK) + 4
        ends.append((max(MARGIN + 2.0, _x(row.error)), y))
        y += BAR + APART
    for power in range(round(math.log10(SMALLEST)), 1):
        canvas.box((_x(10.0**power), top, _x(10.0**power) + 1, y), RULE)
        canvas.text((_x(10.0**power), y + 4), f"1e{power}" if power else "1", PALE, TEXT, "ma")
    for index, (end, at) in enumerate(ends):
        canvas.box((MARGIN, at, end, at + BAR), NEUTRAL if index else BLUE)
    if budget:
        x = _x(budget)
        for _, at in ends:
            canvas.line([(x, at - 5), (x, at + BAR + 5)], RED, 3)
        canvas.text((x - 6, top - 4), f"budget {budget:.2g}", RED, TEXT, "rd" if x > WIDTH / 2 else "ld")
    return canvas.picture(y + LINE + 16)


def _frames(row: VerifiedSampling) -> str:
    peak = row.call_peak if row.run_peak is None else row.run_peak
    of = "a call" if row.run_peak is None else "the run"
    took = "" if peak is None else f", peak of {of} {in_mib(peak)} MiB"
    if math.isnan(row.psnr):
        return took
    return (
        f", PSNR {row.psnr:.1f} dB, SSIM {row.ssim:.4f}, unsteady {_of(row.unsteady)}, motion {_of(row.motion)} %{took}"
    )


def _of(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _x(error: float) -> float:
    decades = math.log10(max(error, SMALLEST) / SMALLEST) if math.isfinite(error) else math.inf
    return MARGIN + (WIDTH - 2 * MARGIN) * min(1.0, decades / math.log10(LARGEST / SMALLEST))
