"""Finds the fastest of the engines that accept a call: timed once on its first real q, k, v.

As `auto` does for dense kernels, with the host's dense attention beside them for the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch

from ..backends.autotune import HOST_RUN, NOISE, AutotuneResult, KernelTrial, time_in_turns
from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.spot_check import SpotCheck
from ..patterns.spec import relation_of
from .engine import Task
from .gather_blocks import GATHER_BLOCKS
from .runner import Runner

_CHOSEN: dict[tuple, AutotuneResult] = {}


def fastest_engine(
    key: tuple, runners: tuple[Runner, ...], run: Callable, host: Callable, tensors: Callable, max_error: float,
    scale: float | None = None, ramp: object = None,
) -> tuple[Runner, AutotuneResult, bool]:  # fmt: skip
    """Choose the Runner for a geometry; give it, the trials, and whether they were made now rather than remembered.

    key: device, geometry and whatever else the timing depends on.
    runners: best first by the table. Of those that differ by no more than noise the first wins.
    run: run(kernel) calls a kernel of (q, k, v, mask, scale) on the real tensors.
    host: calls the host's own attention.
    tensors: gives q: (B, H, Lq, D), k, v: (B, Hkv, L, D) and, if there is one, the mask; asked for only when the
        geometry is new.
    max_error: relative L2 that an engine may be off.
    ramp: what the pattern is one stretch of; the engine that was the fastest for one is taken for all. None: nothing.
    Raises ValueError when no engine stays within max_error.
    """
    named = {runner.label: runner for runner in runners}
    key = (*key, tuple(r.alike for r in runners) if ramp is None else (ramp, tuple(named)), max_error)
    if key in _CHOSEN:
        return named[_CHOSEN[key].winner], _CHOSEN[key], False
    begin = time.perf_counter()
    q, k, v, *mask = tensors()
    spot_check, fixed = spot_check_of(q, k, v, runners[0], *(mask or (None,)), scale)
    trials = check_errors(named, run, spot_check, fixed, max_error)
    spot_check.copies = None  # no less room for the timing than in the calls that follow
    fit = {name: lambda name=name: run(named[name].kernel) for name, trial in trials.items() if trial.reason is None}
    if not fit:
        raise ValueError("; ".join(f"{trial.name}: {trial.reason}" for trial in trials.values()))
    seconds = time_in_turns({HOST_RUN: host, **fit}, spot_check.device)
    best = min(seconds[name] for name in fit)
    winner = next(name for name in fit if seconds[name] <= best * (1 + NOISE))
    timed = (KernelTrial(name, seconds.get(name, 0.0), trial.error, trial.reason) for name, trial in trials.items())
    _CHOSEN[key] = AutotuneResult(
        winner, (KernelTrial(HOST_RUN, seconds[HOST_RUN]), *timed), time.perf_counter() - begin
    )
    return named[winner], _CHOSEN[key], True


def check_errors(
    runners: dict[str, Runner], run: Callable, spot_check: SpotCheck, fixed: bool, max_error: float
) -> dict[str, KernelTrial]:
    """Measure each engine's error before its speed, or say why it is out.

    Where the mask follows from the tensors each engine may choose blocks of its own: the error is then against dense
    attention, and may be larger than that of the exact engine by max_error.
    """
    trials = {name: check_error(name, runner, run, spot_check) for name, runner in runners.items()}
    exact = trials.get(GATHER_BLOCKS.name)
    limit = max_error if fixed or exact is None or exact.reason else exact.error + max_error
    for name, trial in trials.items():
        if trial.reason is None and not trial.error <= limit:
            trials[name] = KernelTrial(name, error=trial.error, reason=f"error {trial.error:.3g} is above {limit:.3g}")
    return trials


def check_error(name: str, runner: Runner, run: Callable, spot_check: SpotCheck) -> KernelTrial:
    """Measure one engine's error, or say why it is out."""
    error = spot_check.error_of_run(lambda: run(runner.kernel))
    return KernelTrial(name, reason=error) if isinstance(error, Reason) else KernelTrial(name, error=error)


def spot_check_of(q, k, v, runner: Runner, mask=None, scale: float | None = None) -> tuple[SpotCheck, bool]:
    """Make the SpotCheck of the video's queries, and tell whether the pattern's mask is fixed: else it is dense."""
    video_span, device = runner.video_span, q.device
    fixed = all(relation_of(task.pattern, task.grid) is not None for _, task, _ in runner.parts)
    seen = tuple((weight, partial(sees, task, device, k.shape[2])) for weight, task, _ in runner.parts)
    queries = video_span.queries
    return SpotCheck(q, k, v, mask, scale, seen if fixed else ((1.0, None),), queries.start, queries.stop), fixed


def sees(task: Task, device, length: int, rows: torch.Tensor) -> torch.Tensor:
    """Give what some queries see, by the pattern and of context tokens: (b, h, R, L) bool.

    length: L, keys of the whole sequence.
    rows: (b, h, R), the queries' numbers.
    """
    video_span, keys = task.video_span, torch.arange(task.tokens, device=device)
    seen = torch.ones(*rows.shape, length, dtype=torch.bool, device=device)
    queries = rows - video_span.queries.start + video_span.cut[0]
    relation = relation_of(task.pattern, task.grid).to(device)
    seen[..., video_span.start : video_span.stop] = relation.mask_mod(0, 0, queries[..., None], keys)
    return seen


def key_of(geometry: Geometry, device: torch.device, *others) -> tuple:
    """Give what the timing of engines depends on besides the engines themselves."""
    return ("engines", str(device), geometry, *others)
