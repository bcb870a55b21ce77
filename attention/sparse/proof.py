"""Tells whether an engine that `auto` waits for gives, on the q, k, v of a model, what exact ones give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, isnan

import torch

from ..core.error_handling import free_frames
from ..core.geometry import Geometry
from ..core.gpu import widest
from ..core.input_copies import InputCopies
from ..core.reason import Reason
from ..core.tokens import VideoSpan
from ..patterns import Neighbourhood, TopBlocks
from .engine_registry import runners
from .runner import Runner

# Tiles that are seen whole, in part and not at all; and blocks selected by their means, the others counting by theirs.
PATTERNS = (Neighbourhood(), TopBlocks(25, tail=True))


def worst_error(name: str, video_span: VideoSpan, geometry: Geometry, run: Callable, tensors) -> float | None:
    """Measure the largest relative L2 error of an engine over PATTERNS: all queries of all heads, each batch entry.

    run: run(kernel) calls a kernel of (q, k, v, mask, scale) on `tensors`.
    tensors: q: (B, H, L, D), k, v: (B, Hkv, L, D).
    Gives infinity where it raises, gives NaN or writes into its inputs; None where one of PATTERNS cannot run in such a
    call. Costs an exact run of each pattern in float32, a key head at a time: no more memory than that head's.
    """
    wide = replace(geometry, batch=1, heads=geometry.heads // geometry.kv_heads, kv_heads=1, dtype=torch.float32)
    errors = []
    for pattern in PATTERNS:
        ours = runners(pattern, video_span, geometry, engine=name)
        exact = runners(pattern, video_span, wide)
        if isinstance(ours, Reason) or isinstance(exact, Reason):
            return None
        errors.append(_error(ours[0], exact[0], run, tensors, geometry.scale))
    return max(errors)


def _error(ours: Runner, exact: Runner, run: Callable, tensors, scale: float | None) -> float:
    kept = InputCopies(*tensors)
    try:
        error = _compared(run(ours.kernel), exact, tensors, scale)
    except Exception as failure:
        free_frames(failure)
        error = inf
    # The tensors are the model's, whatever came of it.
    return inf if kept.restore() or isnan(error) else error


def _compared(out: torch.Tensor, exact: Runner, tensors, scale: float | None) -> float:
    """Measure the relative L2 of out: (B, H, L, D), in the entry of the batch where it is largest."""
    q, k, v = tensors
    group, worst = q.shape[1] // k.shape[1], 0.0
    for entry in range(len(q)):
        wrong, size, wide = 0.0, 0.0, widest(out.device)
        for head in range(k.shape[1]):
            some = slice(head * group, (head + 1) * group), slice(head, head + 1), slice(head, head + 1)
            truth = exact(*(t[entry : entry + 1, heads].float() for t, heads in zip(tensors, some)), scale)
            wrong = wrong + (out[entry : entry + 1, some[0]].float() - truth).to(wide).square().sum()
            size = size + truth.to(wide).square().sum()
        error = (wrong / (size if size else 1.0)).sqrt().item()
        if not error <= worst:
            worst = error  # NaN stays
        if error != error:
            break
    return worst
