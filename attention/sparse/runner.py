"""Runs a pattern over a whole sequence: the video's tokens on an engine, all others densely."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from ..core.allocation_record import record_paused
from ..core.grid import order
from ..core.tensor_layout import expand_kv
from ..core.tokens import VideoSpan
from ..core.torch_sdpa import sdpa
from ..patterns.density import flop_ratio
from ..patterns.spec import relation_of
from .cached_blocks import CachedBlocks, select_anew
from .engine import Engine, HostMask, Task, outside_video
from .tile_layout import layout


@dataclass(frozen=True)
class Runner:
    """Attention of a whole sequence in which the video's tokens attend by a pattern, and all others to everything.

    video_span: where the video's tokens are in the calls.
    parts: ((weight, task, engine), ...), whose outputs are averaged.
    turns: such parts for one evaluation of the model after the other, for a pattern that takes turns; else ().
    evaluations: gives how many evaluations have begun, 0 where nobody counts: then the first turn runs.
    block_cache: keeps selected blocks from step to step; see cached_blocks.py.
    Two equal Runners do the same.
    """

    video_span: VideoSpan
    parts: tuple[tuple[float, Task, Engine], ...]
    turns: tuple[tuple[tuple[float, Task, Engine], ...], ...] = ()
    evaluations: Callable[[], int] = field(default=lambda: 0, compare=False, repr=False)
    block_cache: Callable = field(default=select_anew, compare=False, repr=False)

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
        if not all(engine.gqa for _, _, engine in self.parts):
            k, v = expand_kv(k, v, q.shape[1])
        video_span, queries = self.video_span, self.video_span.queries
        keys = slice(video_span.start, video_span.stop)
        video = (q[:, :, queries], k[:, :, keys], v[:, :, keys])
        context_kv = tuple(outside_video(t, video_span, 2) for t in (k, v))
        out = self._video(video, context_kv, scale, HostMask.of(mask, video_span))
        if out.shape[2] == q.shape[2]:
            return out
        context_q = torch.cat([q[:, :, : queries.start], q[:, :, queries.stop :]], dim=2)
        if mask is not None and mask.shape[2] > 1:
            mask = torch.cat([mask[:, :, : queries.start], mask[:, :, queries.stop :]], dim=2)
        context_out = dense_attention(context_q, k, v, scale, mask)
        return torch.cat([context_out[:, :, : queries.start], out, context_out[:, :, queries.start :]], dim=2)

    def kernel(self, q, k, v, mask=None, scale=None) -> torch.Tensor:
        """Attend under the contract of a backend."""
        return self(q, k, v, scale, mask)

    def _video(self, video, context_kv, scale, mask) -> torch.Tensor:
        out, parts = None, self.turns[self.evaluations() % len(self.turns)] if self.turns else self.parts
        for weight, task, engine in parts:
            plan = engine_plan(engine, task, video[0].device, video[0].dtype)
            cache = (self.block_cache,) if engine.selects_blocks else ()
            # A mass of attention is in more blocks at some steps than at others: so much memory is taken.
            with record_paused() if getattr(task.pattern, "varies", False) else nullcontext():
                one = engine.run(video, context_kv, scale, plan, *cache, *(() if mask is None else (mask,)))
            one = one if weight == 1.0 else one * weight
            out = one if out is None else out + one
        return out


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


# As many as a pattern has turns, for two places of the video: fewer would all be made anew in each evaluation.
@lru_cache(maxsize=64)
def engine_plan(engine: Engine, task: Task, device: torch.device, dtype: torch.dtype):
    """Make what `engine.run` needs, once for a task on a device."""
    with record_paused():
        return engine.plan(task, device, dtype)


def forget_engine_plans() -> None:
    """Free what was planned for patterns, 50 to 200 MiB for a large video; what runs next is planned anew."""
    for cached in (engine_plan, layout, relation_of, order):
        cached.cache_clear()
