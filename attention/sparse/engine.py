"""What an engine is: it runs a pattern over the video's tokens.

Context tokens are all others of the sequence: text, sound, references. Every video token sees them, and they see all.
Letters: N video tokens, M queries of a call among them, S context tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch

from ..core.geometry import Geometry
from ..core.reason import Reason
from ..core.tokens import Grid, VideoSpan
from ..patterns.spec import Pattern

# Gathered keys, values and queries held at once: for a CPU's thread, whose cache they should fit, and for a GPU.
THREAD_BYTES = 4 << 20
GPU_BYTES = 256 << 20
# A GPU is busy with so much.
LEAST_BYTES = 32 << 20


@dataclass(frozen=True)
class Task:
    """One pattern in calls of one kind.

    video_span: where the video's tokens are in the calls.
    compile_on_cpu: whether an engine may compile for the CPU, which takes a C++ compiler and some seconds.
    """

    pattern: Pattern
    video_span: VideoSpan
    compile_on_cpu: bool = False

    @property
    def grid(self) -> Grid:
        """Return the video's tokens, (T, Y, X)."""
        return self.video_span.grid

    @property
    def tokens(self) -> int:
        """Return N, the number of the video's tokens."""
        return prod(self.grid)

    @property
    def all_queries(self) -> bool:
        """Tell whether all of the video's tokens are queries."""
        return self.video_span.cut == (0, self.tokens)

    @property
    def context_tokens(self) -> int:
        """Return S, the number of context tokens."""
        return sum(span.length for span in (*self.video_span.before, *self.video_span.after))


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    name: as users know the engine.
    summary: what is said of it.
    refuses: refuses(task, geometry) says why it cannot run the task, None: it can. May be slow: asked once.
    plan: plan(task, device, dtype) makes index tensors and masks for `run`, once.
    run: run(video, context_kv, scale, plan) -> (B, H, N, D). video: (q, k, v), each (B, H, N, D); context_kv: (k, v),
        each (B, H, S, D), S may be 0. Changes none of its inputs.
    auto: whether `auto` may take it before Video Attention Benchmark has seen it right.
    selects_blocks: whether it selects blocks from q and k. Then run has one more argument, cache: cache(select, sample)
        gives select(), or what that gave in an earlier step; see cached_blocks.py.
    gqa: whether run takes keys and values of fewer heads than q, each head's for as many of q in a row.
    masks: whether run takes one more argument where the host has a mask, mask: HostMask.
    partial_queries: whether it runs calls with a part of the video's queries, as task.video_span.cut says; q is then
        (B, H, M, D).
    exact: whether it is no coarser than its tensors.
    copies: how many tensors as large as q `run` holds at most beside its inputs, its output among them. A Runner gives
        it some heads at a time where that is much; what is gathered (scratch_bytes) comes on top.
    """

    name: str
    summary: str
    refuses: Callable[[Task, Geometry], Reason | None]
    plan: Callable[[Task, torch.device, torch.dtype], object] = field(repr=False)
    run: Callable[..., torch.Tensor] = field(repr=False)
    auto: bool = True
    selects_blocks: bool = False
    gqa: bool = False
    masks: bool = False
    partial_queries: bool = False
    exact: bool = True
    copies: float = 5

    def refuses_call(self, task: Task, geometry: Geometry) -> Reason | None:
        """Say why the engine runs no such call whatever the pattern; None: it may."""
        if geometry.mask != "none" and not self.masks:
            return Reason(f"{geometry.mask} mask")
        if not task.all_queries and not self.partial_queries:
            return Reason("a part of the video's queries")
        if not self.exact and (geometry.high_precision or not geometry.low_precision):
            return Reason("the model asks for exact attention here")
        return None


@dataclass(frozen=True)
class HostMask:
    """The host's mask for the M queries of the video in a call: bool (True: may be seen), or added to the scores.

    video: (1|B, 1|H, 1|M, N), its columns of the video's keys.
    context_keys: (1|B, 1|H, 1|M, S), its columns of the context tokens.
    """

    video: torch.Tensor
    context_keys: torch.Tensor

    @classmethod
    def of(cls, mask: torch.Tensor | None, video_span: VideoSpan) -> HostMask | None:
        """Take the part of a mask (1|B, 1|H, 1|Lq, Lk) that is about the video's queries."""
        if mask is None:
            return None
        mask = mask if mask.shape[2] == 1 else mask[:, :, video_span.queries]
        return cls(mask[..., video_span.start : video_span.stop], outside_video(mask, video_span, -1))

    @property
    def rows(self) -> int:
        """Return M, the number of queries, or 1 where all queries see alike."""
        return self.video.shape[2]

    def bias_of(self, heads, queries, keys, dtype: torch.dtype) -> torch.Tensor:
        """Give what the mask adds to the scores of gathered keys and all context tokens: (R|1, n, m|1, K + S).

        heads: ((R,), (R,)), indices into batch and heads.
        queries: their positions, (n, m) or (R, n, m).
        keys: their positions, (n, K) or (R, n, K).
        """
        axes = [index[:, None, None] if size > 1 else index.new_zeros(1, 1, 1)
                for index, size in zip(heads, self.video.shape)]  # fmt: skip
        rows = queries if self.rows > 1 else queries[..., :1] * 0
        rows, keys = (t if t.ndim == 3 else t[None] for t in (rows, keys))
        video = self.video[(*(axis[..., None] for axis in axes), rows[..., None], keys[:, :, None, :])]
        context = self.context_keys[(*axes, rows)].expand(*video.shape[:3], -1)
        return torch.cat([as_bias(video, dtype), as_bias(context, dtype)], dim=-1)


def outside_video(x: torch.Tensor, video_span: VideoSpan, axis: int) -> torch.Tensor:
    """Copy x without the video's tokens along an axis of the whole sequence."""
    rest = x.shape[axis] - video_span.stop
    return torch.cat([x.narrow(axis, 0, video_span.start), x.narrow(axis, video_span.stop, rest)], dim=axis)


def as_bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Give what a mask adds to the scores: 0 and -inf for bool."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -torch.inf)


def scratch_bytes(device: torch.device, size: int = GPU_BYTES) -> int:
    """Give how many bytes an engine gathers at once at most, unless one box of queries for one head needs more.

    Besides it there are linear copies of q, k, v and the output alone, and never a tensor of L x L.

    size: bytes of the queries that it runs; fewer of them gather less at once.
    """
    if device.type == "cpu":
        return THREAD_BYTES * torch.get_num_threads()
    return min(GPU_BYTES, max(LEAST_BYTES, size))


def append_context(keys: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Append context: (..., S, D) to keys: (..., K, D), broadcast over the leading axes."""
    return torch.cat([keys, context.expand(*keys.shape[:-2], -1, -1)], dim=-2) if context.shape[-2] else keys
