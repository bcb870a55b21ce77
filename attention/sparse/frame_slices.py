"""Patterns of whole frames: in raster order their keys are slices, one of a window, so nothing is looked up."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import groupby

import torch

from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.tokens import Grid
from ..core.torch_sdpa import sdpa
from ..patterns.spec import relation_of
from .engine import Engine, HostMask, Task


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse patterns in which a query sees a part of a frame."""
    if frame_slices(task.pattern, task.grid) is None:
        return Reason("it does not see whole frames")
    return None


@lru_cache(maxsize=64)
def frame_slices(pattern, grid: Grid) -> list[tuple[int, int, tuple[tuple[int, int], ...]]] | None:
    """List runs of frames that see alike: (first, one past the last, spans of frames that they see) each.

    None for a pattern in which a query sees a part of a frame.
    """
    relation, (frames, rows, columns) = relation_of(pattern, grid), grid
    if relation is None:
        return None
    picture, seen = ((0, rows), (0, columns)), []
    for t in range(frames):
        boxes, full = relation.key_boxes(((t, t + 1), *picture))
        if not full or not boxes or any(box[1:] != picture for box in boxes):
            return None
        seen.append(joined(box[0] for box in boxes))
    runs = [(spans, len(list(same))) for spans, same in groupby(seen)]
    stops = [sum(length for _, length in runs[: i + 1]) for i in range(len(runs))]
    return [(stop - length, stop, spans) for (spans, length), stop in zip(runs, stops)]


def joined(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Join spans that touch or overlap, in ascending order."""
    found: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((first, stop))
    return tuple(found)


def plan(task: Task, device, dtype):
    """List slices of tokens, (queries, slices of keys), queries as they are in the call."""
    frame, (first, last) = task.tokens // task.grid[0], task.video_span.cut
    whole = (
        (max(a * frame, first), min(b * frame, last), tuple(slice(c * frame, d * frame) for c, d in spans))
        for a, b, spans in frame_slices(task.pattern, task.grid)
    )
    return tuple((slice(a - first, b - first), keys) for a, b, keys in whole if a < b)


def run(video, context_kv, scale, plan, mask: HostMask | None = None) -> torch.Tensor:
    """Attend from each run of frames to the slices that it sees; see Engine.run."""
    q, k, v = video
    context_k, context_v = context_kv
    # (batch, tokens, heads, D) in memory, as torch's kernels write and hosts read: both copies run straight.
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
    for queries, keys in plan:
        bias = None
        if mask is not None:
            rows = queries if mask.rows > 1 else slice(None)
            bias = append(mask.video[:, :, rows], keys, mask.context_keys[:, :, rows], -1)
        out[:, :, queries] = sdpa(
            q[:, :, queries],
            append(k, keys, context_k, 2),
            append(v, keys, context_v, 2),
            attn_mask=bias,
            scale=scale,
        )
    return out


def append(x: torch.Tensor, keys: tuple[slice, ...], context: torch.Tensor, axis: int) -> torch.Tensor:
    """Give slices of x along an axis and `context` behind them: a view where there is one slice and no context."""
    parts = [x.narrow(axis, some.start, some.stop - some.start) for some in keys]
    parts += [context] if context.shape[axis] else []
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)


FRAME_SLICES = Engine(
    "slabs", "Slices of whole frames and torch's attention. Exact, on every device.", refuses, plan, run,
    masks=True, partial_queries=True, copies=4,
)  # fmt: skip
