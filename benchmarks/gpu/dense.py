"""Phase b: every dense kernel on one size. Ratios are medians round by round, of one run."""

from __future__ import annotations

from functools import partial

from attention.backends import registry, sdpa

from .. import clocks
from ..floors import GPUS, floor, tops
from ..kernel import OURS as HOW
from ..kernel import rivals
from .context import Context
from .place import OURS
from .timing import side_by_side, truth_of

HOST = sdpa.AUTO.name


def run(context: Context, tokens: int, head_dim: int) -> None:
    """Measure one size."""
    place = context.place
    shape, before = place.shape(tokens, head_dim), clocks.now(place.device)
    refused: dict[str, str] = {}
    truth: list = []

    def make(q, k, v) -> dict:
        if not truth:
            context.at("float64")
            truth.append(truth_of(q, k, v))
        runs = {}
        for name in rivals():
            reason = place.why_not(name, q, k, v)
            if reason:
                refused[name] = reason
            else:
                runs[name] = (partial(call, registry.load(name)), truth[0])
        return runs

    place_cells = {"tokens": shape.tokens, "head_dim": head_dim}
    found = side_by_side(context, shape, make, **place_cells)
    for name, trial in sorted(found.items(), key=lambda pair: pair[1].ms):
        least = floor_of(place.machine, shape, name)
        speed = tops(shape.heads, shape.tokens, shape.tokens, head_dim, trial.ms)
        context.row(
            **place_cells, kernel=name, ms=trial.ms, tops=speed,
            of_floor=None if least is None else least / trial.ms, error=trial.error, mib=trial.mib,
            **{"beside sdpa": trial.beside(found[HOST]) if HOST in found else None},
            rounds=len(trial.seconds), first_s=trial.first,
        )  # fmt: skip
    context.not_run(refused)
    after = clocks.now(place.device)
    shown = " to ".join(
        f"{clocks.of(at, 'sm_mhz', 'max_sm_mhz')} MHz, {clocks.of(at, 'watts')} W, {clocks.of(at, 'celsius')} C"
        for at in (before, after)
    )
    context.note(f"clocks as found: {shown}" + (f" ({after['reason']})" if after["reason"] else ""))


def call(kernel, q, k, v):
    """Call a kernel without a mask."""
    return kernel(q, k, v, mask=None, scale=None)


def floor_of(machine: str, shape, name: str) -> float | None:
    """Compute the milliseconds that our kernel cannot go below on this GPU; None for others and unknown GPUs."""
    gpu = next((gpu for known, gpu in GPUS.items() if known.split(" SXM")[0] in machine), None)
    if gpu is None or name not in OURS:
        return None
    return floor(gpu, shape.heads, shape.tokens, shape.tokens, shape.head_dim, **HOW[name]).ms
