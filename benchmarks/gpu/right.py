"""Phase a: every backend and engine on this device against float64, in a short table of cases."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from attention.backends import registry
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, VideoSpan
from attention.patterns.spec import relation_of
from attention.sparse import engine_registry
from attention.sparse.gather_blocks import GATHER_BLOCKS
from attention.sparse.proof import PATTERNS

from ..shapes import Shape
from .context import FIRST, Context
from .place import OURS
from .timing import truth_of

# Relative L2 that is right: of what promises nothing, what the tests allow.
EXACT, QUANTISED = 0.01, 0.03


@dataclass(frozen=True)
class Case:
    """One call. mask: None, "key", "bias" or "rows"."""

    name: str
    q_len: int = 1000
    kv_len: int = 1000
    head_dim: int = 128
    heads: int = 4
    kv_heads: int = 4
    batch: int = 1
    mask: str | None = None


# The first two are compiled as what is measured later; others that are compiled anew, which takes seconds, come late.
CASES = (
    Case("whole blocks", 1024, 1024),
    Case("head size 64, whole", head_dim=64, q_len=1024, kv_len=1024),
    Case("ragged", 1001, 1009),
    Case("grouped", 1001, 1009, heads=8, kv_heads=2),
    Case("two prompts", 1001, 333, batch=2),
    Case("one query", 1, 129, batch=16),
    Case("few keys", 257, 5),
    Case("key mask", 1001, 333, mask="key"),
    Case("head size 64, ragged", head_dim=64, q_len=1001, kv_len=1009),
    Case("key bias", 1001, 333, mask="bias"),
    Case("a bias of each row", mask="rows", q_len=130, kv_len=336),
    Case("head size 72", head_dim=72, kv_len=515),
    Case("head size 40", head_dim=40, kv_len=128),
)
GRID, DRY_GRID = (6, 14, 15), (2, 7, 10)


def run(context: Context, seconds: float) -> None:
    """Try all that can run here, ours first; a kernel whose time is up has fewer cases, and its row says how many."""
    place = context.place
    names = [*OURS, *(name for name in registry.names() if name not in OURS)]
    todo = [("kernel", name) for name in names] + [("engine", name) for name in engine_registry.names()]
    end, refused = time.monotonic() + (600.0 if place.dry else seconds), {}
    for index, (kind, name) in enumerate(todo):
        label = name if kind == "kernel" else f"{name}, patterns"
        if label in context.without:
            continue
        left = max(1.0, end - time.monotonic())
        share = 0.3 * left if label in OURS else left / (len(todo) - index)
        with context.attempt(label):
            found = tried(context, kind, name, label, time.monotonic() + share)
            if isinstance(found, Reason):
                refused[label] = found
            else:
                context.row(kernel=label, **found, kept=True)
    context.not_run(refused)


def tried(context: Context, kind: str, name: str, label: str, end: float) -> dict | Reason:
    """Give a row's cells, or why nothing of it runs here."""
    cases = CASES if kind == "kernel" else PATTERNS
    limit, worst, wrong, done, why = limit_of(name, context.place.dtype), 0.0, [], 0, Reason("nothing fits")
    for case in cases:
        if done and time.monotonic() > end:
            break
        context.at(label, FIRST, cases=done)
        error = error_of(context, name, case) if kind == "kernel" else error_by(context, name, case)
        if isinstance(error, Reason):
            why = error
            continue
        done, worst = done + 1, max(worst, error if error == error else float("inf"))
        if not error <= limit:
            wrong.append(f"{case.name}: {error:.2g}")
    if not done:
        return why
    return {"cases": f"{done} of {len(cases)}", "error": worst, "limit": limit, "right": "no: " + ", ".join(wrong)
            if wrong else "yes"}  # fmt: skip


def limit_of(name: str, dtype: torch.dtype) -> float:
    """Give the relative L2 that is right for a backend or an engine."""
    if name in registry.names():
        row = registry.get(name)
        return (row.promise or (EXACT if row.limits.exact else QUANTISED)) + torch.finfo(dtype).eps / 2
    exact = next(engine.exact for engine in engine_registry.TABLE if engine.name == name)
    return EXACT if exact else QUANTISED


def error_of(context: Context, name: str, case: Case) -> float | Reason:
    """Run one case on a backend: its error over all queries, or why it refuses. An error where it writes into its
    inputs."""
    place = context.place
    if place.dry:
        case = replace(case, q_len=min(case.q_len, 70), kv_len=min(case.kv_len, 77), heads=case.heads // case.kv_heads,
                       kv_heads=1)  # fmt: skip
    sizes = ((case.heads, case.q_len), (case.kv_heads, case.kv_len), (case.kv_heads, case.kv_len))
    q, k, v = (
        torch.randn(case.batch, heads, length, case.head_dim, device=place.device).to(place.dtype)
        for heads, length in sizes
    )
    mask = mask_of(case, place)
    refused = place.why_not(name, q, k, v, mask)
    if refused:
        return refused
    kept = [t.clone() for t in (q, k, v)]
    out = registry.load(name)(q, k, v, mask=mask, scale=None)
    if not all(map(torch.equal, kept, (q, k, v))):
        raise AssertionError(f"{case.name}: it wrote into its inputs")
    wide = (t.double().repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (q, k, v))
    bias = mask if mask is None or mask.dtype == torch.bool else mask.double()
    return relative_l2(out, scaled_dot_product_attention(*wide, bias))


def mask_of(case: Case, place):
    """Draw a case's mask."""
    if case.mask is None:
        return None
    if case.mask == "key":
        seen = torch.rand(case.batch, 1, 1, case.kv_len, device=place.device) < 0.6
        seen[..., :2] = True
        return seen
    rows = case.q_len if case.mask == "rows" else 1
    return torch.randn(1, 1, rows, case.kv_len, device=place.device).to(place.dtype)


def error_by(context: Context, name: str, pattern) -> float | Reason:
    """Run one pattern on an engine: its error, or why it refuses. Where blocks are chosen each engine may choose its
    own: the error is that beyond the exact engine's, both against dense attention."""
    place = context.place
    shape = Shape("right", DRY_GRID if place.dry else GRID, place.heads if place.dry else 4, 128)
    q, k, v = place.draw(shape)
    runner = place.runner(pattern, name, shape.grid, q, k, v)
    if isinstance(runner, Reason):
        return runner
    check = truth_of(q, k, v, runner)
    error = check(runner(q, k, v))
    if relation_of(pattern, shape.grid) is not None:
        return error
    wide = tuple(t.float() for t in (q, k, v))
    exact = engine_registry.runners(pattern, VideoSpan(shape.grid, 0, BOTH), describe(*wide), engine=GATHER_BLOCKS.name)
    return exact if isinstance(exact, Reason) else max(0.0, error - check(exact[0](*wide)))
