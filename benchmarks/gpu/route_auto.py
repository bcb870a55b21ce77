"""Phase d: what `auto` chose beside the best in hindsight, all in one run."""

from __future__ import annotations

from functools import partial

from attention.backends import registry, sdpa
from attention.routing.rules import Rule

from .context import Context
from .dense import call
from .router_calls import Routed, host_attention, see_ours
from .timing import side_by_side, truth_of

GOAL = 0.97
HOST = "host's own"


def run(context: Context, tokens: int) -> None:
    """Measure for both head sizes, before and after our kernels have been seen right."""
    registry._SEEN.clear()  # an earlier task may have looked
    for head_dim in (128, 64):
        for seen in (False, True):
            if seen:
                see_ours(context, head_dim)
            if not chosen(context, tokens, head_dim, seen):
                return


def chosen(context: Context, tokens: int, head_dim: int, seen: bool) -> bool:
    """Give a row; False where the time is up."""
    place = context.place
    shape, truth = place.shape(tokens, head_dim), []
    label = f"auto, {head_dim}, ours {'seen right' if seen else 'not seen yet'}"
    if label in context.without:
        return True
    routed = Routed((Rule(),), shape.grid, shape.heads)

    def host(q, k, v):
        return host_attention(q, k, v, shape.heads, skip_reshape=True, skip_output_reshape=True)

    def make(q, k, v) -> dict:
        if not truth:
            truth.append(truth_of(q, k, v))
        accepted, _ = registry.candidates(place.geometry(q, k, v))
        runs = {label: routed, HOST: host}
        runs |= {name: partial(call, registry.load(name)) for name in accepted if name != sdpa.MATH.name}
        return {name: (one, truth[0]) for name, one in runs.items()}

    context.at(label)
    found = side_by_side(context, shape, make, tokens=shape.tokens)
    auto = found.pop(label, None)
    if auto is None or not found:
        return True
    fit = {name: trial for name, trial in found.items() if trial.error <= Rule().max_error} or found
    best = min(fit, key=lambda name: fit[name].ms)
    host_ratio = round(auto.beside(found[HOST]), 2) if HOST in found else None
    beside = {"of best": auto.beside(fit[best]), "beside host": host_ratio}
    context.row(call=label, tokens=shape.tokens, took=routed.ran, ms=auto.ms, best=best, best_ms=round(fit[best].ms, 3),
                **beside, choosing_s=round(routed.choosing, 2), goal=GOAL, rounds=len(auto.seconds),
                kept=True)  # fmt: skip
    return place.dry or context.left > 2
