"""Windows of whole frames: in raster order their keys are one slice, so nothing is gathered."""

from __future__ import annotations

from itertools import groupby

import torch

from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.torch_sdpa import sdpa
from ..patterns.spec import relation_of
from .engine import Engine, HostMask, Task, append_context


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse patterns whose windows are not whole frames in a row."""
    if frame_slices(task) is None:
        return Reason("windows are not whole frames in a row")
    return None


def frame_slices(task: Task) -> list[tuple[int, int, int, int]] | None:
    """List runs of frames that see alike: (first, one past the last, first frame seen, one past the last) each.

    None for a pattern whose windows are not whole frames in a row.
    """
    relation, (frames, rows, columns) = relation_of(task.pattern, task.grid), task.grid
    if relation is None:
        return None
    picture, seen = ((0, rows), (0, columns)), []
    for t in range(frames):
        boxes, full = relation.key_boxes(((t, t + 1), *picture))
        if not full or len(boxes) != 1 or boxes[0][1:] != picture:
            return None
        seen.append(boxes[0][0])
    runs = [(span, len(list(same))) for span, same in groupby(seen)]
    stops = [sum(length for _, length in runs[: i + 1]) for i in range(len(runs))]
    return [(stop - length, stop, *span) for (span, length), stop in zip(runs, stops)]


def plan(task: Task, device, dtype):
    """List slices of tokens, (queries, keys), queries as they are in the call."""
    frame, (first, last) = task.tokens // task.grid[0], task.video_span.cut
    whole = (
        (max(a * frame, first), min(b * frame, last), slice(c * frame, d * frame)) for a, b, c, d in frame_slices(task)
    )
    return tuple((slice(a - first, b - first), keys) for a, b, keys in whole if a < b)


def run(video, context_kv, scale, plan, mask: HostMask | None = None) -> torch.Tensor:
    """Attend from each run of frames to the slice that it sees; see Engine.run."""
    q, k, v = video
    context_k, context_v = context_kv
    # (batch, tokens, heads, D) in memory, as torch's kernels write and hosts read: both copies run straight.
    out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
    for queries, keys in plan:
        bias = None
        if mask is not None:
            rows = queries if mask.rows > 1 else slice(None)
            bias = torch.cat([mask.video[:, :, rows, keys], mask.context_keys[:, :, rows]], dim=-1)
        out[:, :, queries] = sdpa(
            q[:, :, queries],
            append_context(k[:, :, keys], context_k),
            append_context(v[:, :, keys], context_v),
            attn_mask=bias,
            scale=scale,
        )
    return out


FRAME_SLICES = Engine(
    "slabs", "Slices of whole frames and torch's attention. Exact, on every device.", refuses, plan, run,
    masks=True, partial_queries=True,
)  # fmt: skip
