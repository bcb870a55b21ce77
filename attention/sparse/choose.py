"""Which of the engines that accept a call is the fastest: timed once on its first real q, k, v, as `auto` does for
dense kernels, with the host's dense attention beside them for the report."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..call import Call
from ..choose import HOST_RUN, NOISE, SAMPLE_HEADS, SAMPLE_QUERIES, Choice, Trial, race
from ..failures import named
from ..grid import RASTER, order
from ..patterns import on
from ..reference import relative_l2, scaled_dot_product_attention
from . import Runner
from .blocks import BLOCKS
from .engine import added

_CHOSEN: dict[tuple, Choice] = {}


def fastest(
    key: tuple, runners: tuple[Runner, ...], run: Callable, host: Callable, tensors: Callable, max_error: float
) -> tuple[Runner, Choice, bool]:
    """The Runner for a geometry, the trials behind it, and whether they were made just now rather than remembered.

    key: device, geometry and whatever else the timing depends on. runners: best first by the table. run(kernel): calls
    a kernel of (q, k, v, mask, scale) on the real tensors. host: the host's own attention. tensors: gives q: (B, H, Lq,
    D), k, v: (B, Hkv, L, D) and, if there is one, the mask; asked for only when the geometry is new. Of engines that
    differ by no more than noise the table's first wins. Raises when no engine stays within max_error.
    """
    key, named = (*key, runners, max_error), {runner.label: runner for runner in runners}
    if key in _CHOSEN:
        return named[_CHOSEN[key].winner], _CHOSEN[key], False
    begin = time.perf_counter()
    q, k, v, *mask = tensors()
    sample = Sample(q, k, v, runners[0], *mask)
    trials = judge(named, run, sample, max_error)
    fit = {name: lambda name=name: run(named[name].kernel) for name, trial in trials.items() if trial.reason is None}
    if not fit:
        raise ValueError("; ".join(f"{trial.name}: {trial.reason}" for trial in trials.values()))
    seconds = race({HOST_RUN: host, **fit}, sample.device)
    best = min(seconds[name] for name in fit)
    winner = next(name for name in fit if seconds[name] <= best * (1 + NOISE))
    timed = (Trial(name, seconds.get(name, 0.0), trial.error, trial.reason) for name, trial in trials.items())
    _CHOSEN[key] = Choice(winner, (Trial(HOST_RUN, seconds[HOST_RUN]), *timed), time.perf_counter() - begin)
    return named[winner], _CHOSEN[key], True


def judge(runners: dict[str, Runner], run: Callable, sample: Sample, max_error: float) -> dict[str, Trial]:
    """What each engine is worth before its speed: its error, or why it is out.

    Where the mask follows from the tensors each engine may choose blocks of its own: the error is then against dense
    attention, and may be larger than that of the exact engine by max_error.
    """
    trials = {name: try_one(name, runner, run, sample) for name, runner in runners.items()}
    exact = trials.get(BLOCKS.name)
    limit = max_error if sample.fixed or exact is None or exact.reason else exact.error + max_error
    for name, trial in trials.items():
        if trial.reason is None and not trial.error <= limit:
            trials[name] = Trial(name, error=trial.error, reason=f"error {trial.error:.3g} is above {limit:.3g}")
    return trials


def try_one(name: str, runner: Runner, run: Callable, sample: Sample) -> Trial:
    try:
        if sample.is_written_by(runner):
            return Trial(name, reason="it writes into its inputs")
        return Trial(name, error=sample(run(runner.kernel)))
    except Exception as failure:
        return Trial(name, reason=named(failure))


class Sample:
    """Compares an output with float32 attention under the pattern's mask, on some of the video's queries and heads.

    q: (B, H, Lq, D), k, v: (B, Hkv, L, D), mask: the host's, (1|B, 1|H, 1|Lq, L) or None. fixed: whether the pattern's
    mask is known; else the truth is dense attention.
    """

    def __init__(self, q, k, v, runner: Runner, mask=None):
        self.device, place = q.device, runner.place
        first, last = place.cut
        self.rows = torch.linspace(first, last - 1, SAMPLE_QUERIES, device=q.device).long().unique()
        self.at = place.queries.start - first + self.rows
        self.heads = torch.linspace(0, q.shape[1] - 1, min(q.shape[1], SAMPLE_HEADS), device=q.device).long()
        self.start, group = place.start, q.shape[1] // k.shape[1]
        # A pattern with a number for each group of heads runs on all of them alone.
        some = k.shape[1] if any(getattr(task.pattern, "by_heads", ()) for _, task, _ in runner.parts) else 1
        self.one = tuple(t[:1, :n] for t, n in ((q, group * some), (k, some), (v, some)))
        self.one_mask = None if mask is None else mask[:1, : group * some]
        if mask is not None:
            mask = mask[:1] if mask.shape[1] == 1 else mask[:1].index_select(1, self.heads)
            mask = added(mask if mask.shape[2] == 1 else mask.index_select(2, self.at), torch.float32)
        few = self._few(q), *(t[:1].index_select(1, self.heads // group).float() for t in (k, v))
        self.fixed = all(on(task.pattern, task.grid) is not None for _, task, _ in runner.parts)
        self.truth = sum(
            weight * scaled_dot_product_attention(*few, self._mask(task, k.shape[2], mask) if self.fixed else mask)
            for weight, task, _ in (runner.parts if self.fixed else ((1.0, None, None),))
        )

    def __call__(self, out) -> float:
        """Relative L2 error of out: (B, H, L, D)."""
        return relative_l2(self._few(out), self.truth)

    def is_written_by(self, runner: Runner) -> bool:
        """Whether the engines change their inputs, tried on copies of as few heads as they run on."""
        given = [t.clone() for t in self.one]
        runner.kernel(*given, mask=self.one_mask)
        return not all(((a == b) | b.isnan()).all() for a, b in zip(given, self.one))

    def _mask(self, task, length: int, mask) -> torch.Tensor:
        """(1, 1|H, rows, L): what the sampled queries see. mask: the host's for them, added to the scores, or None."""
        raster = torch.arange(task.tokens, device=self.device)
        if task.order != RASTER:
            raster = order(task.grid, task.order, task.tile)[0].to(self.device)
        seen = torch.ones(1, 1, len(self.rows), length, dtype=torch.bool, device=self.device)
        relation = on(task.pattern, task.grid).to(self.device)
        seen[0, 0, :, self.start : self.start + task.tokens] = relation.mask_mod(
            0, 0, raster[self.rows][:, None], raster[None, :]
        )
        return seen if mask is None else mask.masked_fill(~seen, -torch.inf)

    def _few(self, t):
        return t[:1].index_select(1, self.heads).index_select(2, self.at).float()


def key_of(call: Call, device: torch.device, *others) -> tuple:
    """What the timing of engines depends on besides the engines themselves."""
    return ("engines", str(device), call, *others)
