"""How far a sampling is from the exact one, beside the noise floor, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class VerifiedSampling:
    """One sampling, compared with the exact one.

    error: relative L2 of its latent.
    ran: kernels, in words.
    seconds: of its steps.
    psnr: of the decoded frames, in dB, NaN where none were.
    ssim: of the decoded frames, NaN where none were.
    """

    name: str
    error: float
    ran: str
    seconds: float
    psnr: float = math.nan
    ssim: float = math.nan


def to_text(rows: Sequence[VerifiedSampling], seconds: float, line: str) -> str:
    """Write a table and what it means.

    rows: planned, then the noise floor if there is one.
    seconds: of the exact sampling.
    line: how was sampled.
    """
    lines = [headline(rows), "", "| sampling | relative L2 of the latent | PSNR | SSIM | seconds |"]
    lines += ["| --- | --- | --- | --- | --- |", f"| exact | 0 | inf | 1 | {seconds:.2f} |"]
    lines += [
        f"| {r.name} | {r.error:.2e} | {_or_dash(r.psnr)} | {_or_dash(r.ssim, 4)} | {r.seconds:.2f} |" for r in rows
    ]
    lines += ["", *(f"{row.name} ran on {row.ran}." for row in rows), line]
    return "\n".join(lines)


def headline(rows: Sequence[VerifiedSampling]) -> str:
    """Say in one sentence how far the planned latent is from the exact one."""
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
