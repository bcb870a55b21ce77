"""Phase c: one pattern with a fixed mask on every engine that takes it. Errors: against float64 under its own mask."""

from __future__ import annotations

from functools import partial

from attention.backends import registry, sdpa
from attention.core.reason import Reason
from attention.sparse import engine_registry
from attention.sparse.runner import forget_engine_plans

from ..patterns import PATTERNS
from .context import Context
from .dense import call
from .place import OURS
from .timing import LEAST, side_by_side, truth_of

HEAD_DIM = 128


def run(context: Context, pattern: str, tokens: int) -> None:
    """Measure one pattern on one size."""
    place, shaped = context.place, PATTERNS[pattern]
    shape, truth, refused, flops = place.shape(tokens, HEAD_DIM), {}, {}, []

    def make(q, k, v) -> dict:
        runs = {}
        for name in engine_registry.names():
            found = place.runner(shaped, name, shape.grid, q, k, v)
            if isinstance(found, Reason):
                refused[name] = found
                continue
            if "pattern" not in truth:
                context.at("float64")
                truth["pattern"], truth["dense"] = truth_of(q, k, v, found), truth_of(q, k, v)
                flops.append(found.flop_ratio)
            runs[name] = (found, truth["pattern"])
        for name in (sdpa.AUTO.name, *OURS) if runs else ():
            if place.why_not(name, q, k, v) is None:
                runs[dense(name)] = (partial(call, registry.load(name)), truth["dense"])
        return runs

    found = side_by_side(context, shape, make, LEAST, pattern=pattern, tokens=shape.tokens)
    best = min((trial.ms for name, trial in found.items() if name in engine_registry.names()), default=None)
    share = flops[0] if flops else None
    for name, trial in sorted(found.items(), key=lambda pair: pair[1].ms):
        if name not in engine_registry.names():
            continue
        base = found.get(dense(name)) or found.get(dense(sdpa.AUTO.name))
        ideal = trial.ms / base.ms / share if base and share else None
        host = found.get(dense(sdpa.AUTO.name))
        context.row(pattern=pattern, tokens=shape.tokens, kernel=name, density=share, ms=trial.ms, ideal=ideal,
                    **{"of best": best / trial.ms, "beside sdpa": trial.beside(host) if host else None},
                    error=trial.error, mib=trial.mib, rounds=len(trial.seconds), first_s=trial.first)  # fmt: skip
    context.not_run(refused)
    # What was planned for one pattern, up to 200 MiB, is of no use to the next.
    forget_engine_plans()


def dense(name: str) -> str:
    """Name a dense kernel, apart from the engine of the same name."""
    return f"{name}, dense"
