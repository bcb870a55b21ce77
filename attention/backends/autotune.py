"""How `auto` chooses: it times the candidates on the first real q, k, v of a geometry, once, and keeps the fastest.

A candidate must stay within a relative L2 error of float32 attention on a sample of queries of every batch entry and
head, see sample.py, must leave its inputs as they are, and must beat the host's own attention by more than noise: so
`auto` is never a loss.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..core.reason import Reason
from ..core.spot_check import Sample
from ..core.timing import elapsed, end_span, start_span

HOST_RUN = "host"
REPEATS = 5
# Repeats beyond the first two are left out when they would take longer than this for one candidate.
SECONDS_EACH = 0.25
# Two timings of one kernel differ by this much on an idle machine; a smaller gain is not a reason to leave the host.
NOISE = 0.03


@dataclass(frozen=True)
class Trial:
    """One candidate: median seconds of a call, relative L2 error, or the reason why it is out.

    host: of HOST_RUN, the function's name. named: whether the model's file names it.
    """

    name: str
    seconds: float = 0.0
    error: float = 0.0
    reason: str | None = None
    host: str = ""
    named: bool = False


@dataclass(frozen=True)
class Choice:
    """winner: a backend or HOST_RUN. spent: seconds that the choice itself took."""

    winner: str
    trials: tuple[Trial, ...]
    spent: float


_CHOSEN: dict[tuple, Choice] = {}


def choose(
    key: tuple, runs: dict[str, Callable], host: Callable, make_sample: Callable, max_error: float
) -> tuple[Choice, bool]:
    """The Choice for a geometry, and whether it was made just now rather than remembered.

    key: GPU, geometry and whatever else the timing depends on. runs: backend -> a call of it, giving (B, H, L, D).
    host: the host's own attention. make_sample: gives a Sample, asked for only when the geometry is new.
    """
    key = (*key, tuple(runs), max_error)
    if key in _CHOSEN:
        return _CHOSEN[key], False
    begin = time.perf_counter()
    sample = make_sample()
    trials = {name: judge(name, run, sample, max_error) for name, run in runs.items()}
    sample.kept = None  # no less room for the timing than in the calls that follow
    fit = {name: runs[name] for name, trial in trials.items() if trial.reason is None}
    seconds = race({HOST_RUN: host, **fit}, sample.device)
    trials |= {name: _timed(trials[name], seconds[name]) for name in fit}
    best = min(fit, key=seconds.get, default=HOST_RUN)
    winner = best if seconds[best] < seconds[HOST_RUN] * (1 - NOISE) else HOST_RUN
    trials = (Trial(HOST_RUN, seconds[HOST_RUN]), *trials.values())
    _CHOSEN[key] = Choice(winner, trials, time.perf_counter() - begin)
    return _CHOSEN[key], True


def judge(name: str, run: Callable, sample: Sample, max_error: float) -> Trial:
    """What a candidate is worth before its speed: its error, or why it is out."""
    error = sample.judge(run)
    if isinstance(error, Reason):
        return Trial(name, reason=error)
    if not error <= max_error:
        return Trial(name, error=error, reason=f"error {error:.3g} is above {max_error:g}")
    return Trial(name, error=error)


def try_kernel(name: str, run: Callable, sample: Sample, max_error: float) -> Trial:
    """The whole Trial of one candidate alone."""
    trial = judge(name, run, sample, max_error)
    return trial if trial.reason else _timed(trial, time_call(run, sample.device))


def _timed(trial: Trial, seconds: float) -> Trial:
    return replace(trial, seconds=seconds) if seconds < math.inf else replace(trial, reason="it fails on and off")


def race(runs: dict[str, Callable], device: torch.device) -> dict[str, float]:
    """Median seconds of a call of each, taken in turns: what else the machine does then slows all of them alike.

    Infinity for one that raises.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(REPEATS + 1):
        for name, run in runs.items():
            if turn > 1 and times[name][0] * (len(times[name]) + 1) >= SECONDS_EACH:
                continue
            try:
                seconds = _once(run, device)
            except Exception:
                times[name] = [math.inf]
            else:
                times[name] += [seconds] * (turn > 0)  # the first of each warms up
    return {name: statistics.median(each) for name, each in times.items()}


def time_call(run: Callable, device: torch.device) -> float:
    """Median seconds of a call, after one that does not count."""
    return race({"": run}, device)[""]


def _once(run: Callable, device: torch.device) -> float:
    begin = start_span(device)
    run()
    return elapsed(end_span(begin, device))
