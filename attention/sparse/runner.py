"""Runs a pattern over a whole sequence: the video's tokens on an engine, all others densely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from ..core.allocation_record import record_paused
from ..core.chunks import Chunks, even, mask_of_chunk, output_bytes, spans
from ..core.geometry import Geometry
from ..core.grid import order, order_on
from ..core.head_chunks import pattern_of_heads
from ..core.tensor_layout import empty_output, expand_kv
from ..core.tokens import VideoSpan
from ..core.torch_sdpa import sdpa
from ..patterns.density import flop_ratio
from ..patterns.spec import relation_of
from .cached_blocks import CachedBlocks, select_anew
from .engine import Engine, HostMask, Task, outside_video, scratch_bytes
from .tile_layout import layout

# What may be held at once beside a call's q, k, v and output, as a share of them, where q takes LARGE_BYTES and more.
EXTRA, LARGE_BYTES = 0.23, 64 << 20


@dataclass(frozen=True)
class Runner:
    """Attention of a whole sequence in which the video's tokens attend by a pattern, and all others to everything.

    video_span: where the video's tokens are in the calls.
    parts: ((weight, task, engine), ...), whose outputs are averaged.
    turns: such parts for one evaluation of the model after the other, for a pattern that takes turns; else ().
    evaluations: gives how many evaluations have begun, 0 where nobody counts: then the first turn runs.
    block_cache: keeps selected blocks from step to step; see cached_blocks.py.
    heads_at_once: how many heads the engines get at a time, a multiple of those that share keys; 0: all, or as many as
        keep what they hold within EXTRA of the call's own tensors, where those are large.
    Two equal Runners do the same.
    """

    video_span: VideoSpan
    parts: tuple[tuple[float, Task, Engine], ...]
    turns: tuple[tuple[tuple[float, Task, Engine], ...], ...] = ()
    evaluations: Callable[[], int] = field(default=lambda: 0, compare=False, repr=False)
    block_cache: Callable = field(default=select_anew, compare=False, repr=False)
    heads_at_once: int = 0

    def with_block_cache(self, evaluations: Callable[[], int], bound: float = 0.0) -> Runner:
        """Make the Runner for one site of one run: it keeps selected blocks for as long as its pattern says, and takes
        turns with the run's evaluations.

        evaluations: as of CachedBlocks.
        bound: as of CachedBlocks.
        """
        refresh = max(getattr(task.pattern, "refresh", 1) for _, task, _ in self.parts)
        made = replace(self, evaluations=evaluations) if self.turns else self
        cache = CachedBlocks(refresh, evaluations, bound)
        return replace(made, block_cache=cache) if refresh > 1 or bound else made

    def in_chunks(self, chunks: Chunks) -> Runner:
        """Make the Runner that gives its engines so many heads at a time, without what was selected for others."""
        cache = self.block_cache
        cache = cache.anew() if isinstance(cache, CachedBlocks) else cache
        return replace(self, heads_at_once=chunks.heads, block_cache=cache)

    @property
    def chunks(self) -> Chunks | None:
        """Return how calls are cut where that was asked for; None: nobody did."""
        return Chunks(self.heads_at_once) if self.heads_at_once else None

    @property
    def copies(self) -> float:
        """Return how many tensors as large as q are held at most beside the inputs; see Engine.copies."""
        # The parts' outputs are weighed, and added to what there is.
        return max(engine.copies for _, _, engine in self.parts) + (2 if len(self.parts) > 1 else 0)

    def takes(self, geometry: Geometry) -> int:
        """Return about how many bytes a call takes beside q, k and v with all its heads at once."""
        # Of a part of the queries the keys are more.
        size = output_bytes(geometry) * max(geometry.q_len, geometry.kv_len) // max(1, geometry.q_len)
        return int(size * self.copies) + scratch_bytes(torch.device(geometry.device), size)

    @property
    def alike(self) -> tuple:
        """Return what its time depends on: all but which of equally many queries a call has."""
        turns = (
            tuple((weight, task.pattern, task.compile_on_cpu, engine) for weight, task, engine in turn)
            for turn in (self.parts, *self.turns)
        )
        return replace(self.video_span, part=None), tuple(turns), self.heads_at_once

    @property
    def engines(self) -> tuple[str, ...]:
        """List the names of the parts' engines."""
        return tuple(engine.name for _, _, engine in self.parts)

    @property
    def label(self) -> str:
        """Join the engines' names, each once."""
        return ", ".join(dict.fromkeys(self.engines))

    @property
    def flop_ratio(self) -> float | None:
        """Return the FLOPs over those of dense attention; None where only the tensors can tell."""
        ratios = [flop_ratio(task.pattern, task.grid, task.context_tokens) for _, task, _ in self.parts]
        return None if None in ratios else sum(ratios)

    def __call__(self, q, k, v, scale: float | None = None, mask=None) -> torch.Tensor:
        """Attend with one softmax over all keys: (B, H, Lq, D).

        q: (B, H, Lq, D), Lq is L, or as many as video_span.part has.
        k: (B, Hkv, L, D).
        v: (B, Hkv, L, D).
        scale: None: 1 / sqrt(D).
        mask: (1|B, 1|H, 1|Lq, L), bool (True: may be seen) or added to the scores, or None.
        """
        turn = self.turns[self.evaluations() % len(self.turns)] if self.turns else self.parts
        heads, queries = self.heads_at_once or usual_heads(q, k, v, self.copies), self.video_span.queries
        if heads >= q.shape[1] and queries == slice(0, q.shape[2]):
            return self._video(turn, q, k, v, scale, mask)
        out, group = empty_output(q), q.shape[1] // k.shape[1]
        for some in spans(q.shape[1], heads):
            shared = slice(some.start // group, some.stop // group)
            part_mask = mask_of_chunk(mask, some, slice(None))
            parts = parts_of_heads(turn, some.start, some.stop - some.start, q.shape[1])
            self._into(out[:, some], parts, q[:, some], k[:, shared], v[:, shared], scale, part_mask)
        return out

    def kernel(self, q, k, v, mask=None, scale=None) -> torch.Tensor:
        """Attend under the contract of a backend."""
        return self(q, k, v, scale, mask)

    def _into(self, out, parts, q, k, v, scale, mask) -> None:
        """Write what some heads attend to into `out`, (B, H, Lq, D): the video's queries, and the others'."""
        queries = self.video_span.queries
        out[:, :, queries] = self._video(parts, q, k, v, scale, mask)
        for others in (slice(0, queries.start), slice(queries.stop, q.shape[2])):
            if others.start < others.stop:
                out[:, :, others] = dense_attention(
                    q[:, :, others], k, v, scale, mask_of_chunk(mask, slice(None), others)
                )

    def _video(self, parts, q, k, v, scale, mask) -> torch.Tensor:
        """Attend from the video's queries by the parts' patterns."""
        if not all(engine.gqa for _, _, engine in parts):
            k, v = expand_kv(k, v, q.shape[1])
        keys = slice(self.video_span.start, self.video_span.stop)
        video = (q[:, :, self.video_span.queries], k[:, :, keys], v[:, :, keys])
        context_kv = tuple(outside_video(t, self.video_span, 2) for t in (k, v))
        mask, out = HostMask.of(mask, self.video_span), None
        for weight, task, engine in parts:
            plan = engine_plan(engine, task, video[0].device, video[0].dtype)
            cache = (self.block_cache,) if engine.selects_blocks else ()
            # A mass of attention is in more blocks at some steps than at others: so much memory is taken.
            with record_paused() if getattr(task.pattern, "varies", False) else nullcontext():
                one = engine.run(video, context_kv, scale, plan, *cache, *(() if mask is None else (mask,)))
            one = one if weight == 1.0 else one * weight
            out = one if out is None else out + one
        return out


def usual_heads(q, k, v, copies: float) -> int:
    """Count the heads that go at a time where nobody said: all, unless large tensors would be held several times.

    copies: as of Runner.copies, of the larger of q and k; another one stands for what is gathered.
    """
    heads, group, size = q.shape[1], q.shape[1] // k.shape[1], max(q.numel(), k.numel()) * q.element_size()
    room = EXTRA * (2 * q.numel() * q.element_size() + (k.numel() + v.numel()) * k.element_size())
    if size < LARGE_BYTES or size * (copies + 1) <= room:
        return heads
    return even(heads, max(group, int(room * heads / (size * (copies + 1)))), group)


@lru_cache(maxsize=256)
def parts_of_heads(parts: tuple, first: int, heads: int, total: int) -> tuple:
    """Give a Runner's parts for some of a call's heads: patterns with a number for each group of heads have their own.

    first: number of the first head.
    heads: how many.
    total: of the call.
    """
    if heads == total:
        return parts
    own = (pattern_of_heads(task.pattern, first, heads, total) for _, task, _ in parts)
    return tuple((w, replace(task, pattern=p), engine) for (w, task, engine), p in zip(parts, own))


def dense_attention(q, k, v, scale: float | None, mask=None) -> torch.Tensor:
    """Attend from context tokens to all: (B, H, S, D). Repeats no k and v where there is no mask.

    q: (B, H, S, D).
    k: (B, Hkv, L, D).
    v: (B, Hkv, L, D).
    mask: (1|B, 1|H, 1|S, L) or None.
    """
    if mask is not None:
        k, v = expand_kv(k, v, q.shape[1])
        return sdpa(q, k, v, attn_mask=mask, scale=scale)
    if k.shape[1] == q.shape[1]:
        return sdpa(q, k, v, scale=scale)
    # Heads that share keys become queries of one head: enable_gqa repeats where no kernel has it.
    group = q.shape[1] // k.shape[1]
    out = sdpa(q.unflatten(1, (-1, group)).flatten(2, 3), k, v, scale=scale)
    return out.unflatten(2, (group, -1)).flatten(1, 2)


def engine_plan(engine: Engine, task: Task, device: torch.device, dtype: torch.dtype):
    """Make what `engine.run` needs, once for a task on a device."""
    return (plan_of_all if task.video_span.part is None else plan_of_part)(engine, task, device, dtype)


# As many as a pattern has turns, for two places of the video: fewer would all be made anew in each evaluation.
@lru_cache(maxsize=64)
def plan_of_all(engine: Engine, task: Task, device: torch.device, dtype: torch.dtype):
    """Plan calls with all queries."""
    with record_paused():
        return engine.plan(task, device, dtype)


# A model may have a call for each of its latent frames; each has its part of the queries to plan for.
@lru_cache(maxsize=512)
def plan_of_part(engine: Engine, task: Task, device: torch.device, dtype: torch.dtype):
    """Plan calls with some of the queries."""
    with record_paused():
        return engine.plan(task, device, dtype)


def forget_engine_plans() -> None:
    """Free what was planned for patterns, 50 to 200 MiB for a large video; what runs next is planned anew."""
    for cached in (plan_of_all, plan_of_part, layout, relation_of, order, order_on):
        cached.cache_clear()
