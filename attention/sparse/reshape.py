"""Spatial and temporal attention as dense attention, the other axes reshaped into the batch: no index, no mask."""

from __future__ import annotations

import torch

from ..core.chunks import spans
from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.torch_sdpa import sdpa
from ..patterns.spatial import Spatial
from ..patterns.temporal import Temporal
from .engine import Engine, Task, append_context, scratch_bytes


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse all but spatial and temporal attention."""
    if not isinstance(task.pattern, (Spatial, Temporal)):
        return Reason("folds spatial and temporal attention alone")
    return None


def plan(task: Task, device, dtype):
    """Give the pattern and the grid: nothing has to be made."""
    return task.pattern, task.grid


def run(video, context_kv, scale, plan) -> torch.Tensor:
    """Attend by reshaping, one batch entry at a time; see Engine.run."""
    pattern, (frames, _, _) = plan
    attend = spatial if isinstance(pattern, Spatial) else temporal
    samples = [attend(*(t[b].unflatten(1, (frames, -1)) for t in video), *(s[b] for s in context_kv), scale)
               for b in range(video[0].shape[0])]  # fmt: skip
    return samples[0].unsqueeze(0) if len(samples) == 1 else torch.stack(samples)


def spatial(q, k, v, context_k, context_v, scale):
    """Attend inside each frame: (H, T * P, D).

    q: (H, T, P, D), P places of a frame.
    k: as q.
    v: as q.
    context_k: (H, S, D).
    context_v: as context_k.

    Frames become the batch, so that a kernel which writes (batch, tokens, heads, D) writes the video in its own order.
    """
    q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    out = sdpa(q, append_context(k, context_k), append_context(v, context_v), scale=scale)
    return out.transpose(1, 2).flatten(0, 1).transpose(0, 1)


def temporal(q, k, v, context_k, context_v, scale):
    """Attend over time at each place, as `spatial` does in a frame; places become the heads, for the same reason."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    heads, places, frames, dim = q.shape
    # Each place has a copy of the context tokens beside its few frames.
    each = 2 * heads * (frames + context_k.shape[1]) * dim * q.element_size()
    step = max(1, scratch_bytes(q.device, q.numel() * q.element_size()) // each) if context_k.shape[1] else places
    if step >= places:
        out = sdpa(q, append_context(k, context_k[:, None]), append_context(v, context_v[:, None]), scale=scale)
        return out.transpose(1, 2).flatten(1, 2)
    out = q.new_empty(heads, frames, places, dim)
    for some in spans(places, step):
        keys, values = (append_context(t[:, some], s[:, None]) for t, s in ((k, context_k), (v, context_v)))
        out[:, :, some] = sdpa(q[:, some], keys, values, scale=scale).transpose(1, 2)
    return out.flatten(1, 2)


RESHAPE = Engine("folded", "Reshapes and runs torch's attention. Exact, on every device.", refuses, plan, run, copies=4)
