"""This pack's own Triton kernel, backends/triton, which works through lists of key blocks: any pattern, head by head.

Context tokens stand in front of the keys, filled up to whole blocks: behind them the blocks of keys are those that a
pattern selects. Fixed masks are exact to the token: tiles that are partly seen carry a bit for each pair, 1 KiB
for each different tile. Not measured on a GPU yet: `auto` takes these engines where Video Attention Benchmark has seen
them right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from math import ceil

import torch

from ..backends import registry
from ..backends.triton.block_lists import KEYS, QUERIES, BlockLists, classify_tiles, of_blocks, of_mask, tiles_of_row
from ..backends.triton.reorder import attend, prepare
from ..core.geometry import Geometry
from ..core.grid import CUBE, RASTER, TILE, order
from ..core.interruption import check_interrupt
from ..core.reason import Reason
from ..core.tokens import Grid
from ..patterns.blocks import SAMPLED, TopBlocks, block_order, select_pooled
from ..patterns.spec import Pattern, relation_of
from .cached_blocks import select_anew
from .engine import Engine, Task

# What a tile with a mask of bits costs in whole tiles. A guess: not measured on a GPU.
PARTIAL_TILE_COST = 1.5
SAMPLED_ROWS = 12


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """What `run` needs.

    permutation: (N,), of the video's tokens to the order they are cut into blocks in; None: as they stand.
    inverse: (N,), back; None likewise.
    lists: of a fixed mask; None where `pattern` selects blocks from q and k.
    """

    pattern: Pattern
    permutation: torch.Tensor | None
    inverse: torch.Tensor | None
    lists: BlockLists | None


def refuses(name: str, task: Task, geometry: Geometry) -> Reason | None:
    """Refuse single tokens, and what the backend of that name refuses."""
    if getattr(task.pattern, "singles", 0):
        return Reason("sees whole blocks alone, no single tokens")
    return registry.why_not(name, geometry)


def plan(task: Task, device: torch.device, dtype: torch.dtype) -> EnginePlan:
    """Find the order in which the fewest tiles are seen, and make its lists."""
    relation = relation_of(task.pattern, task.grid)
    if relation is None:
        to, moved, lists = block_order(task.pattern, task.grid)[0], task.pattern.order != RASTER, None
    else:
        relation = relation.to(device)
        to = min((to.to(device) for to in candidate_orders(task.grid)), key=lambda to: tile_cost(relation, to))
        lists = of_mask(*with_context(relation, to, task.context_tokens), device)
        moved = True
    permutation = to.to(device)
    if not moved or permutation.equal(torch.arange(task.tokens, device=device)):
        return EnginePlan(task.pattern, None, None, lists)
    return EnginePlan(task.pattern, permutation.int(), permutation.argsort(), lists)


def candidate_orders(grid: Grid) -> Iterator[torch.Tensor]:
    """List orders in which tokens that see each other may share blocks: frames, places over time, near cubes."""
    yield order(grid, RASTER)[0]
    for tile in ((grid[0], 1, 1), (1, 8, 8), (2, 8, 8), CUBE, (8, 4, 4)):
        yield order(grid, TILE, tile)[0]


def tile_cost(relation, to: torch.Tensor) -> float:
    """Count the tiles that the kernel works through for some blocks of queries, in full ones."""
    seen, tokens, _ = with_context(relation, to, 0)
    rows, total = ceil(tokens / QUERIES), 0.0
    for row in range(0, rows, ceil(rows / SAMPLED_ROWS)):
        every, some = classify_tiles(tiles_of_row(seen, row, tokens, tokens, to.device), tokens)
        total += float(every.sum() + PARTIAL_TILE_COST * some.sum())
    return total


def with_context(relation, to: torch.Tensor, context_tokens: int):
    """Give (seen, queries, keys) of a pattern over tokens in the order `to`, behind context tokens that all see.

    seen(query, key) gives bool, over positions that broadcast; queries and keys are how many there are.
    """
    tokens, start = len(to), padded_context(context_tokens)

    def seen(query, key):
        check_interrupt()
        video = relation.mask_mod(0, 0, to[query], to[(key - start).clamp(min=0)])
        return torch.where(key < start, key < context_tokens, video)

    return seen, tokens, start + tokens


def padded_context(context_tokens: int) -> int:
    """Count the keys in front of the video's: context tokens filled up to whole blocks."""
    return ceil(context_tokens / KEYS) * KEYS


def run(video, context_kv, scale, plan: EnginePlan, cache=select_anew, **how) -> torch.Tensor:
    """Attend by lists of key blocks; see Engine.run.

    how: as of launch.attention.
    """
    q, selects, context_tokens = video[0], plan.lists is None, context_kv[0].shape[2]
    tail = plan.pattern.tail if selects else plan.lists.by_mean is not None
    inputs, means = prepare(*video, context_kv, plan.permutation, scale, selects=selects, tail=tail, **how)
    lists = plan.lists
    if selects:
        pattern, tokens = plan.pattern, q.shape[2]
        lists = cache(
            lambda: lists_of_selection(pattern, select_pooled(pattern, *means), tokens, context_tokens),
            lambda: select_pooled(pattern, *means, every=SAMPLED),
        )
    out = attend(inputs, q, lists)
    return out if plan.inverse is None else out.index_select(2, plan.inverse)


def lists_of_selection(pattern, kept: torch.Tensor, tokens: int, context_tokens: int) -> BlockLists:
    """Make the BlockLists of the blocks that a pattern selected.

    kept: (B, H, R, C) bool, as patterns.blocks.select_blocks gives it.
    """
    most = None
    if isinstance(pattern, TopBlocks):
        most = pattern.number(kept.shape[-1]) + QUERIES // KEYS
    return of_blocks(kept, padded_context(context_tokens) + tokens, pattern.tail, context_tokens, most)


def _row(name: str, summary: str, **how) -> Engine:
    summary = f"{summary} `auto` takes it once Video Attention Benchmark has seen it right."
    how, exact = partial(run, **how), not how["quantized"]
    flags = {"auto": False, "selects_blocks": True, "gqa": True, "exact": exact, "copies": 5}
    return Engine(name, summary, partial(refuses, name), plan, how, **flags)


INT8 = _row(
    "video attention int8",
    "This pack's own Triton kernel with INT8 scores. Any pattern. Approximate.",
    quantized=True,
)
HALF = _row("video attention 16 bit", "The same kernel with 16-bit scores. Any pattern. Exact.", quantized=False)
FLOAT8 = _row(
    "video attention float8",
    "The same kernel with INT8 scores and values in float8. Any pattern. Coarser.",
    quantized=True,
    float8=True,
)
