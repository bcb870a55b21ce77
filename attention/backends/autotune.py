"""Autotuning: `auto` times the candidates on the first real q, k, v of a geometry, once, and keeps the fastest.

A candidate must stay within a relative L2 error of float32 attention on some queries of every batch entry and head (see
core/spot_check.py), must leave its inputs as they are, and must beat the host's own attention by more than noise: so
`auto` is never a loss.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..core.reason import Reason
from ..core.spot_check import SpotCheck
from ..core.timing import elapsed, end_span, start_span

HOST_RUN = "host"
REPEATS = 5
# Repeats beyond the first two are left out when they would take longer than this for one candidate.
SECONDS_EACH = 0.25
# The relative L2 error that exact kernels stay below in 16 bit, and that every quantised one exceeds.
EXACT = 0.005
# Two timings of one kernel differ by this much on an idle machine; a smaller gain is not a reason to leave the host.
NOISE = 0.03


@dataclass(frozen=True)
class KernelTrial:
    """Holds what was measured of one kernel on one call.

    name: of the backend or engine, or HOST_RUN.
    seconds: of a call, the least of several.
    error: relative L2, against attention in float32.
    reason: why it is out, None where it is not.
    host: of HOST_RUN, the function's name.
    named: of HOST_RUN, whether the model's file names that function.
    peak: bytes that a call takes at most beside q, k and v, its output included; None where that was not measured.
    peak_of_half: the same of a call with half of the tokens, which tells how it grows.
    """

    name: str
    seconds: float = 0.0
    error: float = 0.0
    reason: str | None = None
    host: str = ""
    named: bool = False
    peak: int | None = None
    peak_of_half: int | None = None


@dataclass(frozen=True)
class AutotuneResult:
    """Holds which kernel is the fastest for a geometry, and what that was found by.

    winner: name of a backend, or HOST_RUN.
    trials: the host's own first, then the candidates.
    spent: seconds that finding out took.
    """

    winner: str
    trials: tuple[KernelTrial, ...]
    spent: float

    def seconds_of(self, name: str) -> float | None:
        """Return what a kernel took for one call; None where it was not timed, as one that is out."""
        return next((t.seconds for t in self.trials if t.name == name and t.reason is None), None) or None

    @property
    def times(self) -> float:
        """Return how many times as long the winner takes as the host's own; infinite where either is not known."""
        host, best = self.seconds_of(HOST_RUN), self.seconds_of(self.winner)
        return best / host if host and best and host < math.inf else math.inf


_CHOSEN: dict[tuple, AutotuneResult] = {}


def fastest_backend(
    key: tuple, runs: dict[str, Callable], host: Callable, make_spot_check: Callable, max_error: float
) -> tuple[AutotuneResult, bool]:
    """Return the AutotuneResult for a geometry, and whether it was made just now rather than remembered.

    key: GPU, geometry and whatever else the timing depends on.
    runs: name of a backend -> a call of it, giving (B, H, L, D).
    host: the host's own attention.
    make_spot_check: gives a SpotCheck; called only when the geometry is new.
    max_error: largest relative L2 error of a winner.
    """
    key = (*key, tuple(runs), max_error)
    if key in _CHOSEN:
        return _CHOSEN[key], False
    begin = time.perf_counter()
    spot_check = make_spot_check()
    trials = {name: check_error(name, run, spot_check, max_error) for name, run in runs.items()}
    spot_check.copies = None  # no less room for the timing than in the calls that follow
    fit = {name: runs[name] for name, trial in trials.items() if trial.reason is None}
    seconds = time_in_turns({HOST_RUN: host, **fit}, spot_check.device)
    trials |= {name: _timed(trials[name], seconds[name]) for name in fit}
    best = min(fit, key=seconds.get, default=HOST_RUN)
    winner = best if seconds[best] < seconds[HOST_RUN] * (1 - NOISE) else HOST_RUN
    trials = (KernelTrial(HOST_RUN, seconds[HOST_RUN]), *trials.values())
    _CHOSEN[key] = AutotuneResult(winner, trials, time.perf_counter() - begin)
    return _CHOSEN[key], True


def check_error(name: str, run: Callable, spot_check: SpotCheck, max_error: float) -> KernelTrial:
    """Try a kernel once: its error, or why it is out. Not timed yet.

    name: of its backend.
    run: a call of it, giving (B, H, L, D).
    spot_check: of that call.
    max_error: largest relative L2 error that is not a reason.
    """
    error = spot_check.error_of_run(run)
    if isinstance(error, Reason):
        return KernelTrial(name, reason=error)
    if not error <= max_error:
        return KernelTrial(name, error=error, reason=f"error {error:.3g} is above {max_error:g}")
    return KernelTrial(name, error=error)


def try_kernel(name: str, run: Callable, spot_check: SpotCheck, max_error: float) -> KernelTrial:
    """Try and time one kernel alone; arguments as of check_error."""
    trial = check_error(name, run, spot_check, max_error)
    return trial if trial.reason else _timed(trial, time_call(run, spot_check.device))


def _timed(trial: KernelTrial, seconds: float) -> KernelTrial:
    return replace(trial, seconds=seconds) if seconds < math.inf else replace(trial, reason="it fails on and off")


def time_in_turns(runs: dict[str, Callable], device: torch.device) -> dict[str, float]:
    """Time calls in turns, so that what else the machine does slows all of them alike: seconds of a call by name.

    The least of several counts: what else the machine does can only add to it. Infinity for one that raises.

    runs: name -> a call.
    device: the one that the calls work on.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(REPEATS + 1):
        for name, run in runs.items():
            known = times[name]
            if math.inf in known or (turn > 2 and min(known) * (len(known) + 1) >= SECONDS_EACH):
                continue
            try:
                seconds = _once(run, device)
            except Exception:
                times[name] = [math.inf]
            else:
                times[name] += [seconds] * (turn > 0)  # the first of each warms up
    return {name: math.inf if math.inf in each else min(each) for name, each in times.items()}


def time_call(run: Callable, device: torch.device) -> float:
    """Time one call: the least seconds of several, after a run that does not count.

    run: the call.
    device: the one that it works on.
    """
    return time_in_turns({"": run}, device)[""]


def _once(run: Callable, device: torch.device) -> float:
    begin = start_span(device)
    run()
    return elapsed(end_span(begin, device))
