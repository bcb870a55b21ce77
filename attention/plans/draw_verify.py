"""Picture of what Verify found."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from ..core.canvas import BLUE, INK, MARGIN, NEUTRAL, PALE, RED, RULE, WIDTH, Canvas
from .verify import VerifiedSampling

HEAD, ROW = 88, 74
# Errors below the first are drawn at the left edge, those above the second at the right.
SMALLEST, LARGEST = 1e-7, 1.0


def draw_verified(rows: Sequence[VerifiedSampling], width: int = WIDTH, budget: float = 0.0) -> Image.Image:
    """Draw a bar for each sampling, its error long on a logarithmic scale from 1e-7 to 1. RGB.

    rows: planned, then the noise floor if there is one.
    width: of the picture, in pixels.
    budget: of the plan, a line through the bars; 0 for none.
    """
    canvas, bottom = Canvas(width, HEAD + 32 + ROW * len(rows)), HEAD + ROW * len(rows)
    canvas.title("Distance from exact attention")
    canvas.text((MARGIN, 58), "relative L2 of the final latent, logarithmic", PALE, 14)
    for power in range(round(math.log10(SMALLEST)), 1):
        x = _x(10.0**power, width)
        canvas.box((x, HEAD, x + 1, bottom), RULE)
        canvas.text((x, bottom + 4), f"1e{power}" if power else "1", PALE, 13, "ma")
    for index, row in enumerate(rows):
        y = HEAD + ROW * index
        canvas.text((MARGIN, y + 6), f"{row.name}: {row.error:.2e}{_frames(row)}", INK, 16)
        end = max(MARGIN + 2.0, _x(row.error, width))
        canvas.box((MARGIN, y + 34, end, y + 58), NEUTRAL if index else BLUE)
    if budget:
        x = _x(budget, width)
        canvas.line([(x, HEAD), (x, bottom)], RED, 2)
        canvas.text((x - 6, HEAD - 6), f"budget {budget:.2g}", RED, 14, "rd" if x > width / 2 else "ld")
    return canvas.picture()


def _frames(row: VerifiedSampling) -> str:
    if math.isnan(row.psnr):
        return ""
    return f", PSNR {row.psnr:.1f} dB, SSIM {row.ssim:.4f}, unsteady {_of(row.unsteady)}, motion {_of(row.motion)} %"


def _of(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _x(error: float, width: int) -> float:
    decades = math.log10(max(error, SMALLEST) / SMALLEST) if math.isfinite(error) else math.inf
    return MARGIN + (width - 2 * MARGIN) * min(1.0, decades / math.log10(LARGEST / SMALLEST))
