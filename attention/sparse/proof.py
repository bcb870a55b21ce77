"""Whether an engine that `auto` waits for gives, on the q, k, v of a model, what exact ones give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import torch

from ..call import Call
from ..patterns import Neighbourhood, TopBlocks
from ..reference import relative_l2
from ..tokens import Place
from . import Runner, runners

# Tiles that are seen whole, in part and not at all; and blocks chosen by their means, the others counting by theirs.
PATTERNS = (Neighbourhood(), TopBlocks(25, tail=True))


def worst_error(name: str, place: Place, call: Call, run: Callable, tensors) -> float | None:
    """Largest relative L2 error of engine `name` over PATTERNS, on the heads that share the first key head.

    run(kernel): calls a kernel of (q, k, v, mask, scale) on `tensors`, q: (B, H, L, D), k, v: (B, Hkv, L, D). Infinity
    where it raises, gives NaN or writes into its inputs; None where one of PATTERNS cannot run in such a call.
    """
    group = call.heads // call.kv_heads
    one = tuple(t[:1, :n] for t, n in zip(tensors, (group, 1, 1)))
    wide = replace(call, batch=1, heads=group, kv_heads=1, dtype=torch.float32)
    errors = []
    for pattern in PATTERNS:
        ours = runners(pattern, place, call, engine=name, order=place.order)
        exact = runners(pattern, place, wide, order=place.order)
        if isinstance(ours, str) or isinstance(exact, str):
            return None
        errors.append(_error(ours[0], exact[0], run, one, call.scale))
    return max(errors)


def _error(ours: Runner, exact: Runner, run: Callable, one, scale: float | None) -> float:
    given = [t.clone() for t in one]
    try:
        ours(*given, scale)
        if not all(((a == b) | b.isnan()).all() for a, b in zip(given, one)):
            return inf
        out = run(ours.kernel)[:1, : one[0].shape[1]]
        error = relative_l2(out, exact(*(t.float() for t in one), scale))
    except Exception:
        return inf
    return error if error < inf else inf
