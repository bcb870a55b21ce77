"""Phase f: candidate cuts around the shipped ones, in turns; the best as a row of backends/triton/tiling.py."""

from __future__ import annotations

from functools import partial

from attention.backends import own_triton, registry
from attention.backends.triton.launch import INTERPRETED
from attention.core.gpu import capability_of

from ..kernel import OURS as HOW
from ..kernel import by_lists, lists_of_best
from . import cuts
from .context import Context
from .timing import LEAST, side_by_side, truth_of

TOKENS, PERCENT = 32640, 15
# A gain below this is no reason to change what is compiled and tested.
GAIN = 1.02
DRY_CANDIDATES = 3


def run(context: Context, head_dim: int, listed: bool) -> None:
    """Tune INT8, then 16 bit, for one head size."""
    for name in (own_triton.INT8.name, own_triton.HALF.name):
        if context.left > 1 or context.place.dry:
            tune(context, name, head_dim, listed)


def tune(context: Context, name: str, head_dim: int, listed: bool) -> None:
    """Give a row for each candidate, and the best as text."""
    place, quantized = context.place, HOW[name]["quantized"]
    capability = INTERPRETED if place.dry else capability_of(place.device)
    every = cuts.candidates(capability, quantized, head_dim, listed)
    every = every[:DRY_CANDIDATES] if place.dry else every
    shape, truth = place.shape(TOKENS, head_dim), []
    percent = 50 if place.dry else PERCENT

    def make(q, k, v) -> dict:
        if not truth:
            truth.append(truth_of(q, k, v))
        kernel = registry.load(name)
        if listed:
            blocks = lists_of_best(shape, q, k, percent, True)
            kernel = partial(by_lists, shape=shape, percent=percent, means=True, blocks=blocks, **HOW[name])
        return {label(name, cut): (partial(with_cut, cut, kernel), truth[0]) for cut in every}

    cells = {"tokens": shape.tokens, "head_dim": head_dim, "way": "lists" if listed else "dense"}
    found = side_by_side(context, shape, make, LEAST, **cells)
    first = found.get(label(name, every[0]))
    for cut in every:
        trial = found.get(label(name, cut))
        if trial is not None:
            context.row(**cells, kernel=label(name, cut), ms=trial.ms, error=trial.error,
                        times=trial.beside(first) if first else None, rounds=len(trial.seconds),
                        first_s=trial.first)  # fmt: skip
    if first is None:
        return
    right = {cut: found[label(name, cut)] for cut in every if label(name, cut) in found}
    right = {cut: trial for cut, trial in right.items() if trial.error <= 1.05 * first.error}
    best = max(right, key=lambda cut: right[cut].beside(first))
    gain = right[best].beside(first)
    if gain < GAIN:
        return context.note(f"{name}, {cells['way']}, {head_dim}: the shipped cut stays, the best is {gain:.3f} x")
    key = cuts.key_of(capability, quantized, head_dim)
    later = "" if best.pipelined_pv == every[0].pipelined_pv else f"; pipelined_pv={best.pipelined_pv}"
    return context.note(
        f"{name}, {cells['way']}: {gain:.3f} x with `{cuts.row_text(key, {cells['way']: best})}`{later}"
    )


def label(name: str, cut) -> str:
    """Name a candidate."""
    return f"{name}, {cut.m} x {cut.n}, {cut.warps} warps, {cut.stages} stages{', pipelined' * cut.pipelined_pv}"


def with_cut(cut, kernel, q, k, v):
    """Call a kernel that is cut so."""
    with cuts.cut_as(cut):
        return kernel(q, k, v)
