"""How far a sampling is from the exact one, beside the noise floor, in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core.peak_memory import in_mib


@dataclass(frozen=True)
class VerifiedSampling:
    """One sampling, compared with the exact one.

    error: relative L2 of its latent.
    ran: kernels, in words.
    seconds: of its steps.
    psnr: of the decoded frames, in dB, NaN where none were.
    ssim: of the decoded frames, NaN where none were.
    unsteady: share of the frames' error that changes over time, see `Comparison`; NaN where none were decoded.
    motion: of the frames, in percent of the height per frame; NaN where none were.
    frozen: share of the frames that equal the one before; NaN where none were.
    verdict: what to think of the frames, in words; empty where none were.
    attention: seconds of its attention calls, NaN where they were not timed.
    run_peak: bytes at the peak of the run, beside what was there before; None where nobody counted.
    call_peak: bytes of the attention call that took most beside its q, k and v; None likewise.
    """

    name: str
    error: float
    ran: str
    seconds: float
    psnr: float = math.nan
    ssim: float = math.nan
    unsteady: float = math.nan
    motion: float = math.nan
    frozen: float = math.nan
    verdict: str = ""
    attention: float = math.nan
    run_peak: int | None = None
    call_peak: int | None = None


# Heads of the table's columns of memory: the field that they show.
MEMORY = {"peak of the run, MiB": "run_peak", "peak of a call, MiB": "call_peak"}


def to_text(rows: Sequence[VerifiedSampling], exact: VerifiedSampling, line: str, budget: float = 0.0) -> str:
    """Write a table and what it means.

    rows: planned, then the noise floor if there is one.
    exact: the exact sampling.
    line: how was sampled.
    budget: relative L2 that the plan has to keep, 0 without a plan.
    """
    heads = [
        "sampling",
        "relative L2 of the latent",
        "PSNR",
        "SSIM",
        "unsteady share",
        "motion, %",
        "frozen",
        "seconds",
    ]
    weighed = {
        head: name for head, name in MEMORY.items() if any(getattr(row, name) is not None for row in (exact, *rows))
    }
    heads += weighed
    lines = [" ".join(filter(None, (headline(rows), keeps(rows[0].error, budget)))), "", f"| {' | '.join(heads)} |"]
    lines += [f"|{' --- |' * len(heads)}", f"| exact | 0 | inf | 1 | - | {_moves(exact, weighed.values())} |"]
    for row in rows:
        cells = row.name, f"{row.error:.2e}", _or_dash(row.psnr), _or_dash(row.ssim, 4), _or_dash(row.unsteady)
        lines.append(f"| {' | '.join(cells)} | {_moves(row, weighed.values())} |")
    lines += ["", *(f"{row.name}: {row.verdict}" for row in rows if row.verdict)]
    lines += [*(f"{row.name} ran on {row.ran}." for row in rows), _seconds(rows[0], exact), line]
    return "\n".join(lines)


def keeps(error: float, budget: float) -> str:
    """Say what the plan's budget was, and whether it was kept; empty without a plan or an error."""
    if not budget or not math.isfinite(error):
        return ""
    if error <= budget:
        return f"The plan's budget of {budget:.2g} was kept."
    return f"The plan's budget of {budget:.2g} was not kept: {error / budget:.3g} times as much."


def _seconds(planned: VerifiedSampling, exact: VerifiedSampling) -> str:
    if not (planned.seconds > 0 and exact.seconds > 0):
        return f"Seconds: {planned.seconds:.2f} planned, {exact.seconds:.2f} exact."
    whole = f"whole sampling {exact.seconds / planned.seconds:.2f}x as fast"
    attention = ""
    if planned.attention > 0 and exact.attention > 0:
        faster = f"{exact.attention / planned.attention:.2f}x"
        attention = f", attention {faster} ({planned.attention:.2f} s of it, exact {exact.attention:.2f} s)"
    return f"Planned took {planned.seconds:.2f} s, exact {exact.seconds:.2f} s: {whole}{attention}."


def _moves(row: VerifiedSampling, weighed: Iterable[str]) -> str:
    frozen = "-" if math.isnan(row.frozen) else f"{row.frozen:.0%}"
    peaks = [getattr(row, name) for name in weighed]
    cells = [_or_dash(row.motion), frozen, f"{row.seconds:.2f}"]
    return " | ".join([*cells, *("-" if peak is None else in_mib(peak) for peak in peaks)])


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
