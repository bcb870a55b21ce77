"""Runs a pattern: TABLE, the engines, best first, and `prepare`, the one entry."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch

from ..backends import registry
from ..backends.spec import reason_of
from ..core.allocation_record import record_paused
from ..core.geometry import Geometry
from ..core.grid import CUBE, RASTER, order
from ..core.reason import Reason
from ..core.tensor_layout import expand_kv
from ..core.tokens import BOTH, Grid, VideoSpan
from ..core.torch_sdpa import sdpa
from ..patterns import flop_ratio, on, parts
from ..patterns.blocks import split_heads
from . import flex, frame_slices, gather_blocks, gather_tiles, kitchen, own_triton, reshape
from .cached_blocks import Held, at_once
from .engine import Engine, Mask, Task, outside

AUTO = "auto"
TABLE = (
    kitchen.NA3D,
    kitchen.SOL,
    reshape.FOLDED,
    frame_slices.SLABS,
    gather_tiles.TILES,
    gather_blocks.BLOCKS,
    flex.FLEX,
    own_triton.INT8,
    own_triton.HALF,
    own_triton.FLOAT8,
)


@dataclass(frozen=True)
class Runner:
    """Attention of a whole sequence in which the video's tokens attend by a pattern, and all others to everything.

    parts: ((weight, task, engine), ...), whose outputs are averaged. Two equal Runners do the same. hold: keeps chosen
    blocks from step to step; see held.py.
    """

    video_span: VideoSpan
    parts: tuple[tuple[float, Task, Engine], ...]
    hold: Callable = field(default=at_once, compare=False, repr=False)

    def holding(self, evaluations: Callable[[], int]) -> Runner:
        """This Runner for one site of one run, where its pattern keeps what it chose. evaluations: see Held."""
        refresh = max(getattr(task.pattern, "refresh", 1) for _, task, _ in self.parts)
        return replace(self, hold=Held(refresh, evaluations)) if refresh > 1 else self

    @property
    def engines(self) -> tuple[str, ...]:
        return tuple(engine.name for _, _, engine in self.parts)

    @property
    def label(self) -> str:
        """The engines' names, each once."""
        return ", ".join(dict.fromkeys(self.engines))

    @property
    def flop_ratio(self) -> float | None:
        """FLOPs over those of dense attention; None where only the tensors can tell."""
        ratios = [flop_ratio(task.pattern, task.grid, task.sinks) for _, task, _ in self.parts]
        return None if None in ratios else sum(ratios)

    def __call__(self, q, k, v, scale: float | None = None, mask=None) -> torch.Tensor:
        """q: (B, H, Lq, D); k, v: (B, Hkv, L, D); mask: (1|B, 1|H, 1|Lq, L) or None; returns (B, H, Lq, D).

        One softmax over all keys. Lq is L, or as many as place.part has.
        """
        if not all(engine.grouped for _, _, engine in self.parts):
            k, v = expand_kv(k, v, q.shape[1])
        video_span, queries = self.video_span, self.video_span.queries
        keys = slice(video_span.start, video_span.stop)
        video = (q[:, :, queries], k[:, :, keys], v[:, :, keys])
        sinks = tuple(outside(t, video_span, 2) for t in (k, v))
        out = self._video(video, sinks, scale, Mask.of(mask, video_span))
        if out.shape[2] == q.shape[2]:
            return out
        others = torch.cat([q[:, :, : queries.start], q[:, :, queries.stop :]], dim=2)
        if mask is not None and mask.shape[2] > 1:
            mask = torch.cat([mask[:, :, : queries.start], mask[:, :, queries.stop :]], dim=2)
        rest = dense_rest(others, k, v, scale, mask)
        return torch.cat([rest[:, :, : queries.start], out, rest[:, :, queries.start :]], dim=2)

    def kernel(self, q, k, v, mask=None, scale=None) -> torch.Tensor:
        """The Runner under the contract of a backend."""
        return self(q, k, v, scale, mask)

    def _video(self, video, sinks, scale, mask) -> torch.Tensor:
        out = None
        for weight, task, engine in self.parts:
            plan = planned(engine, task, video[0].device, video[0].dtype)
            held = (self.hold,) if engine.chooses else ()
            # A mass of attention is in more blocks at some steps than at others: so much memory is taken.
            with record_paused() if getattr(task.pattern, "varies", False) else nullcontext():
                one = engine.run(video, sinks, scale, plan, *held, *(() if mask is None else (mask,)))
            one = one if weight == 1.0 else one * weight
            out = one if out is None else out + one
        return out


def dense_rest(q, k, v, scale: float | None, mask=None) -> torch.Tensor:
    """Attention of other tokens to all: q: (B, H, S, D), k, v: (B, Hkv, L, D) -> (B, H, S, D). Repeats no k and v."""
    if mask is not None:
        k, v = expand_kv(k, v, q.shape[1])
        return sdpa(q, k, v, attn_mask=mask, scale=scale)
    if k.shape[1] == q.shape[1]:
        return sdpa(q, k, v, scale=scale)
    # Heads that share keys become queries of one head: enable_gqa repeats where no kernel has it.
    group = q.shape[1] // k.shape[1]
    out = sdpa(q.unflatten(1, (-1, group)).flatten(2, 3), k, v, scale=scale)
    return out.unflatten(2, (group, -1)).flatten(1, 2)


@lru_cache(maxsize=16)
def planned(engine: Engine, task: Task, device: torch.device, dtype: torch.dtype):
    """What `engine.run` needs, made once for a task on a device."""
    with record_paused():
        return engine.plan(task, device, dtype)


def forget_plans() -> None:
    """Frees what was planned for patterns, 50 to 200 MiB for a large video; what runs next is planned anew."""
    for kept in (planned, gather_tiles.layout, on, order):
        kept.cache_clear()


def names() -> tuple[str, ...]:
    """Every engine, best first, whether it can run here or not."""
    return tuple(engine.name for engine in TABLE)


def prepare(pattern, video_span: VideoSpan, geometry: Geometry, **how) -> Runner | Reason:
    """The first of `runners`, or why there is none."""
    found = runners(pattern, video_span, geometry, **how)
    return found if isinstance(found, Reason) else found[0]


def runners(
    pattern, video_span: VideoSpan, geometry: Geometry, *, block: int = 0, engine: str = AUTO, order: str = RASTER,
    tile: Grid = CUBE, compile_on_cpu: bool = False,
) -> tuple[Runner, ...] | Reason:  # fmt: skip
    """The Runners for `pattern` in calls like `call`, one for each engine that accepts, best first, or why none does.

    block: index of the model's block, for patterns that alternate. engine: a name, or AUTO: any of TABLE. order, tile:
    how the video's tokens stand in the call, where they have been moved; see grid.order. compile_on_cpu: lets
    FlexAttention compile for the CPU.
    """
    reason = refuses(pattern, video_span, geometry, block)
    if reason:
        return reason
    accepted = []
    for weight, part in parts(pattern, block):
        task = Task(part, video_span, order, tile, compile_on_cpu)
        found = candidates(task, geometry, engine)
        if isinstance(found, Reason):
            return found
        accepted.append((weight, task, found))
    # A part that an engine refuses runs on the best of its own.
    wanted = dict.fromkeys(row for _, _, found in accepted for row in found)
    made = (tuple((w, task, row if row in found else found[0]) for w, task, found in accepted) for row in wanted)
    return tuple(dict.fromkeys(Runner(video_span, some) for some in made))


def candidates(task: Task, geometry: Geometry, engine: str = AUTO) -> tuple[Engine, ...] | Reason:
    """The engines that accept a task, best first, or why none does."""
    asked = [row for row in TABLE if engine == row.name or (engine == AUTO and open_to_auto(row, geometry))]
    if not asked:
        return Reason(f"engine: {engine!r} is not known. Known: {', '.join(names())}")
    reasons = {row: row.fits(task, geometry) or reason_of(row.refuses, task, geometry) for row in asked}
    accepted = tuple(row for row, reason in reasons.items() if reason is None)
    return accepted or Reason("; ".join(f"{row.name}: {reason}" for row, reason in reasons.items()))


def open_to_auto(row: Engine, geometry: Geometry) -> bool:
    return row.auto or registry.seen_right(row.name, geometry, by_lists=True)


def refuses(pattern, video_span: VideoSpan, geometry: Geometry, block: int = 0) -> Reason | None:
    """Why no engine runs the pattern in such a call, or None."""
    first, last = video_span.part or (0, video_span.length)
    if video_span.side != BOTH or (video_span.part is None and geometry.q_len != geometry.kv_len):
        return Reason("patterns are for self-attention")
    if (geometry.q_len, geometry.kv_len) != (last - first, video_span.length):
        return Reason(f"{geometry.q_len} tokens, the place has {last - first}")
    if video_span.queries.start == video_span.queries.stop:
        return Reason("no query is the video's")
    if geometry.mask == "dense" and getattr(pattern, "tail", False):
        return Reason("dense mask: a block's mean stands for its tokens to all queries alike")
    if geometry.grad:
        return Reason("no gradient")
    if 0 in (geometry.batch, geometry.heads, geometry.head_dim):
        return Reason("empty tensors")
    groups = len(getattr(pattern, "by_heads", ()))
    if groups and geometry.heads % groups:
        return Reason(f"{geometry.heads} heads, the pattern is for {groups} groups of equal numbers of them")
    if all(dense(part, video_span.grid) for _, part in parts(pattern, block)):
        return Reason(f"{pattern.name} attention of {' x '.join(map(str, video_span.grid))} tokens is dense")
    return None


def dense(pattern, grid: Grid) -> bool:
    """Whether every video token is known to see every one."""
    relation = on(pattern, grid)
    if relation is not None:
        return relation.whole
    # Of percentages; a threshold tells nothing before there are scores.
    return hasattr(pattern, "amount") and all(getattr(g, g.amount) >= 100.0 for g in split_heads(pattern))
