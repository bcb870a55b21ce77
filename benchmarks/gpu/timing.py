"""Kernels side by side: each tried alone for its error and memory, then all in turns on fresh inputs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from attention.core.spot_check import SpotCheck
from attention.core.timing import elapsed, end_span, start_span
from attention.sparse.autotune import spot_check_of

from ..shapes import Shape
from .context import OTHER, Context

# Rounds in turns: at least, at most.
LEAST, MOST = 3, 7


@dataclass
class Trial:
    """What was found of one kernel.

    error: relative L2 against float64, on some queries of every head.
    mib: most memory that a call took besides its inputs; None where nobody counts.
    first: seconds of the first call, compiling included.
    seconds: of each round.
    """

    error: float
    mib: float | None
    first: float
    seconds: list[float] = field(default_factory=list)

    @property
    def ms(self) -> float:
        """Median milliseconds."""
        return statistics.median(self.seconds) * 1e3

    def beside(self, other: Trial) -> float:
        """Median over the rounds of how many times as fast it was as another."""
        return statistics.median(theirs / ours for ours, theirs in zip(self.seconds, other.seconds))


def truth_of(q, k, v, runner=None) -> SpotCheck:
    """Compute attention in float64 for some queries of every head; by a runner's pattern where its mask is fixed."""
    wide = tuple(t.double() for t in (q, k, v))
    made = SpotCheck(*wide) if runner is None else spot_check_of(*wide, runner)[0]
    made.copies = None
    return made


def side_by_side(context: Context, shape: Shape, make: Callable, rounds: int = MOST, **cells) -> dict[str, Trial]:
    """Try and time kernels: {name: Trial} of those that ran. One that raises is a row, with `cells`.

    make: gives, of q, k and v, {name: (a call of them, the SpotCheck it is compared with)}; asked for each round anew,
        and what it does itself is not timed.
    """
    place, found = context.place, {}
    q, k, v = place.draw(shape)
    for name, (run, truth) in make(q, k, v).items():
        if name in context.without:
            continue
        if context.left < 0 and len(found) > 1:
            context.row(kernel=name, failed="not tried: the task's time was up", **cells)
            continue
        with context.attempt(name, **cells):
            found[name] = tried(run, truth, q, k, v)
    if place.dry:  # one call of each is enough to go this way
        return found
    out = set()
    for turn in range(rounds):
        begun = time.monotonic()
        # The inputs that were looked at are as good as others for the first round.
        tensors = (q, k, v) if turn == 0 else place.draw(shape)
        kernels = make(*tensors) if turn else make(q, k, v)
        names = [name for name in kernels if name in found and name not in out]
        for name in names[:: -1 if turn % 2 else 1]:
            before = len(found[name].seconds)
            with context.attempt(name, OTHER, **cells):
                found[name].seconds.append(once(kernels[name][0], tensors, place.device))
            if len(found[name].seconds) == before:
                out.add(name)
        if turn + 1 >= LEAST and context.left < 1.5 * (time.monotonic() - begun):
            break
    return {name: trial for name, trial in found.items() if name not in out and trial.seconds}


def tried(run: Callable, truth: SpotCheck, q, k, v) -> Trial:
    """Run a kernel twice: for its error, and for its memory."""
    begun = time.monotonic()
    error = truth(run(q, k, v))
    first = time.monotonic() - begun
    return Trial(error, peak(run, q, k, v), first, [] if q.is_cuda else [first])


def peak(run: Callable, q, k, v) -> float | None:
    """Measure the MiB that a call takes at most, its output among them; None where nobody counts."""
    if q.device.type != "cuda":
        return None
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats(q.device)
    before = torch.cuda.memory_allocated(q.device)
    run(q, k, v)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated(q.device) - before) / 2**20


def once(run: Callable, tensors, device: torch.device) -> float:
    """Time one call, on the device's own clock."""
    begin = start_span(device)
    run(*tensors)
    return elapsed(end_span(begin, device))
