"""Any fixed pattern: boxes of queries, each with just the keys that it needs, gathered and run by torch's attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import gcd, prod

import torch

from ..core.grid import TILE, boxes, order, size_of
from ..core.interruption import check_interrupt
from ..core.reason import Reason
from ..core.tokens import Grid
from ..core.torch_sdpa import sdpa
from ..patterns.layout import Tile, mask_in, tile_of
from ..patterns.spec import relation_of
from .engine import Engine, HostMask, Task, append_context, scratch_bytes

# Time of a box of m queries over its share of dense time, gather included: about FIXED + PER_BOX / m, and MASKED times
# that with a mask. Measured in float32 with head size 128 on a CPU with AVX-512: 1.6 at 64, 1.2 at 256, 1.1 at 512.
FIXED, PER_BOX, MASKED = 1.1, 36.0, 1.1
MOST_QUERIES, SAMPLED_BOXES = 1024, 24
# Below this many tokens in a row, moving the tokens into another order costs more than it saves in gathering.
SHORTEST_RUN = 8
# More masks than this, in float32, are not kept but made again in every call.
MASK_BYTES = 128 << 20
# A box costs about half a millisecond of planning.
MOST_BOXES = 4096


@dataclass(frozen=True, eq=False)
class Layout:
    """run: how many tokens lie in a row wherever keys are gathered; tile: the order in which they do.

    Equal masks of the tiles are one object; where there are too many of them, `relation` makes them in the call.
    """

    relation: object
    tile: Grid
    run: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, eq=False)
class BoxGroup:
    """Boxes of equal size. queries: (n, m), positions; keys: (n, K / run), in units of `run` tokens.

    bias: (1, 1, m, K + S) of 0 and -inf, one for all; None: no mask, or one to be made from the tiles of `made` and the
    raster indices of their keys, (n, K).
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor | None = None
    unmasked: tuple[Tile, ...] = ()
    raster: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """permutation: of keys and values, so that whole runs of tokens are gathered; None: as they stand."""

    permutation: torch.Tensor | None
    run: int
    groups: tuple[BoxGroup, ...]
    relation: object


def refuses(task: Task, call) -> Reason | None:
    return Reason("the mask follows from the tensors") if relation_of(task.pattern, task.grid) is None else None


def best_tile(relation) -> Grid:
    """The box of queries with the least estimated time."""
    grid = relation.grid
    candidates = set()
    for least in relation.tile_sizes:
        axes = [{min(size << i, length) for i in range(10)} for size, length in zip(least, grid)]
        candidates |= {tile for tile in product(*axes) if tile[0] * tile[1] * tile[2] <= MOST_QUERIES}
        candidates.add(tuple(min(size, length) for size, length in zip(least, grid)))
    few = [tile for tile in candidates if prod(-(-n // size) for n, size in zip(grid, tile)) <= MOST_BOXES]
    return min(sorted(few or candidates), key=lambda tile: estimate(relation, tile))


def estimate(relation, tile: Grid) -> float:
    """Keys for each query, times the cost of a pair, over some boxes of the grid."""
    check_interrupt()
    cut = boxes(relation.grid, tile)
    some = cut[:: max(1, len(cut) // SAMPLED_BOXES)]
    cost = 0.0
    for box in some:
        key_boxes, full = relation.key_boxes(box)
        m, keys = size_of(box), sum(size_of(seen) for seen in key_boxes)
        cost += m * keys * (FIXED + PER_BOX / m) * (1.0 if full else MASKED)
    return cost / sum(size_of(box) for box in some)


@lru_cache(maxsize=2)
def layout(pattern, grid: Grid) -> Layout:
    """The tiles of a pattern, keys in the order in which they are gathered."""
    relation = relation_of(pattern, grid)
    best, known, masks, tiles = best_tile(relation), {}, {}, []
    kept = mask_bytes(relation, best) <= MASK_BYTES
    for box in boxes(grid, best):
        check_interrupt()
        tile = tile_of(relation, box, known, masks=kept)
        tiles.append(share_mask(replace(tile, keys=tile.keys.int()), masks))
    runs = {tile: shortest_run(tiles, order(grid, TILE, tile)[1]) for tile in (grid, best, *relation.tile_sizes)}
    tile = max(runs, key=runs.get)
    if runs[tile] < SHORTEST_RUN:
        return Layout(relation, grid, 1, tuple(tiles))
    masks, (_, back) = {}, order(grid, TILE, tile)
    return Layout(relation, tile, runs[tile], tuple(share_mask(reordered(one, back), masks) for one in tiles))


def mask_bytes(relation, tile: Grid) -> int:
    """At most so much is kept of masks, in float32, where boxes that see alike share theirs."""
    sizes = {}
    for box in boxes(relation.grid, tile):
        check_interrupt()
        key_boxes, full = relation.key_boxes(box)
        if not full:
            sizes[relation.mask_key(box)] = size_of(box) * sum(map(size_of, key_boxes))
    return 4 * sum(sizes.values())


def shortest_run(tiles: list[Tile], back: torch.Tensor) -> int:
    """The most tokens that every tile's keys can be gathered by, in the order that `back` leads to."""
    run = 0
    for tile in tiles:
        check_interrupt()
        run = gcd(run, *edges(back[tile.keys.long()].sort().values))
        if run < SHORTEST_RUN:
            break
    return run


def edges(positions: torch.Tensor) -> list[int]:
    """Where runs of successive positions begin and end."""
    breaks = (positions.diff() != 1).nonzero().flatten()
    ends = torch.cat([positions[breaks] + 1, positions[breaks + 1], positions[[0]], positions[[-1]] + 1])
    return ends.tolist()


def share_mask(tile: Tile, masks: dict) -> Tile:
    """The tile with its mask exchanged for an equal one of `masks`, by their content."""
    if tile.seen is None or any(tile.seen is mask for mask in masks.values()):
        return tile
    return replace(tile, seen=masks.setdefault((tile.seen.shape, tile.seen.numpy().tobytes()), tile.seen))


def reordered(tile: Tile, back: torch.Tensor) -> Tile:
    """The tile with its keys in the order that `back` leads to."""
    rank = back[tile.keys.long()].argsort()
    return replace(tile, keys=tile.keys[rank], seen=None if tile.seen is None else tile.seen[:, rank])


def plan(task: Task, device: torch.device, dtype: torch.dtype) -> EnginePlan:
    found = layout(task.pattern, task.grid)
    to, back = order(task.grid, TILE, found.tile)
    alike: dict[tuple, list[Tile]] = {}
    for tile in found.tiles if task.all_queries else cut_to_queries(task, found.tiles):
        alike.setdefault((len(tile.queries), len(tile.keys), tile.full, id(tile.seen)), []).append(tile)
    groups = tuple(box_group(task, found, tiles, back, device, dtype) for tiles in alike.values())
    permutation = task.positions(to)
    moved = found.run > 1 and not permutation.equal(torch.arange(task.tokens))
    return EnginePlan(permutation.to(device) if moved else None, found.run, groups, found.relation.to(device))


def cut_to_queries(task: Task, tiles: Iterable[Tile]) -> Iterator[Tile]:
    """The tiles with those of their queries alone that the call has."""
    (first, last), masks = task.video_span.cut, {}
    for tile in tiles:
        at = task.positions(tile.queries)
        some = (at >= first) & (at < last)
        if some.any():
            seen = None if tile.seen is None else tile.seen[some]
            yield share_mask(replace(tile, queries=tile.queries[some], seen=seen, rows=some), masks)


def box_group(task: Task, found: Layout, tiles: list[Tile], back, device, dtype) -> BoxGroup:
    check_interrupt()
    queries, keys = (torch.stack([getattr(t, name) for t in tiles]).long() for name in ("queries", "keys"))
    units = back[keys][:, :: found.run] // found.run if found.run > 1 else task.positions(keys)
    bias, unmasked, raster, seen = None, (), None, tiles[0].seen
    if seen is not None:
        bias = mask_bias(seen[None, None].to(device), task.context_tokens, dtype)
    elif not tiles[0].full:
        # The boxes and rows alone: what else the tiles hold would be held twice.
        unmasked = tuple(replace(tile, queries=tile.queries[:0], keys=tile.keys[:0]) for tile in tiles)
        raster = keys.int().to(device)
    at = task.positions(queries) - task.video_span.cut[0]
    return BoxGroup(at.to(device), units.int().to(device), bias, unmasked, raster)


def mask_bias(seen: torch.Tensor, context_tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """(..., m, K) bool as 0 and -inf, followed by `sinks` columns of 0."""
    bias = torch.zeros(*seen.shape[:-1], seen.shape[-1] + context_tokens, dtype=dtype, device=seen.device)
    bias[..., : seen.shape[-1]].masked_fill_(~seen, -torch.inf)
    return bias


def run(video, context_kv, scale, plan: EnginePlan, mask: HostMask | None = None) -> torch.Tensor:
    (batch, heads, number, dim), tokens, context_tokens = video[0].shape, video[1].shape[2], context_kv[0].shape[2]
    q, k, v = (t.flatten(0, 1) for t in video)
    context_kv = tuple(s.flatten(0, 1) for s in context_kv)
    if plan.permutation is not None:
        k, v = (t.index_select(1, plan.permutation) for t in (k, v))
    k, v = (t.contiguous().view(batch * heads, tokens // plan.run, plan.run * dim) for t in (k, v))
    out = q.new_empty(batch * heads, number, dim)
    for group in plan.groups:
        known = None
        for rows, members in chunks(group, batch * heads, dim, plan.run, context_tokens, q, mask):
            queries, keys = group.queries[members], group.keys[members]
            if known is None or known[0] != members:
                known = members, pattern_bias(plan, group, members, context_tokens, q)
            bias = known[1]
            if mask is not None:
                heads_of = torch.arange(rows.start, min(rows.stop, len(q)), device=q.device)
                positions = token_positions(plan, keys)
                own = mask.bias_of((heads_of // heads, heads_of % heads), queries, positions, q.dtype)
                bias = own if bias is None else own + bias
            attend(q[rows], k[rows], v[rows], tuple(s[rows] for s in context_kv), scale, bias, queries, keys, out[rows])
    return out.unflatten(0, (batch, heads))


def chunks(
    group: BoxGroup, rows: int, dim: int, run: int, context_tokens: int, q: torch.Tensor, mask: HostMask | None = None
):
    """(slice of heads, slice of boxes) such that what is gathered for them stays within scratch_bytes."""
    n, m = group.queries.shape
    keys = group.keys.shape[1] * run
    copies = 4 if context_tokens else 2
    one = (copies * (keys + context_tokens) + 3 * m) * dim * q.element_size()
    seen = m * (keys + context_tokens) * q.element_size() * 2
    shared = seen if group.unmasked or mask is not None else 0
    if mask is not None and mask.video.shape[0] * mask.video.shape[1] > 1:
        one += seen if mask.rows > 1 or group.unmasked or group.bias is not None else seen // m
    budget = scratch_bytes(q.device)
    heads = max(1, min(rows, (budget - shared) // one))
    boxes_each = max(1, min(n, budget // (one * heads + shared)))
    for a in range(0, n, boxes_each):
        for b in range(0, rows, heads):
            yield slice(b, b + heads), slice(a, a + boxes_each)


def pattern_bias(
    plan: EnginePlan, group: BoxGroup, members: slice, context_tokens: int, q: torch.Tensor
) -> torch.Tensor | None:
    """What the pattern adds to the scores of some boxes of a group, (1, n|1, m, K + S); None: nothing."""
    if not group.unmasked:
        return group.bias
    found = []
    for tile, keys in zip(group.unmasked[members], group.raster[members]):
        seen = mask_in(plan.relation, tile.box, keys)
        found.append(seen if tile.rows is None else seen[tile.rows.to(seen.device)])
    return mask_bias(torch.stack(found)[None], context_tokens, q.dtype)


def token_positions(plan: EnginePlan, keys: torch.Tensor) -> torch.Tensor:
    """Where in the call the tokens of gathered units stand, from the video's first: (n, K / run) -> (n, K)."""
    keys = (keys[..., None] * plan.run + torch.arange(plan.run, device=keys.device)).flatten(-2)
    return keys.long() if plan.permutation is None else plan.permutation[keys.long()]


def attend(q, k, v, context_kv, scale, bias, queries, keys, out) -> None:
    """Some boxes of a group for some heads; q, out: (R, M, D), k, v: (R, N / run, run * D), sinks: (R, S, D)."""
    (n, m), dim = queries.shape, q.shape[-1]
    one = q.index_select(1, queries.flatten()).unflatten(1, (n, m))
    k, v = (t.index_select(1, keys.flatten()).view(len(q), n, -1, dim) for t in (k, v))
    k, v = (append_context(t, s.unsqueeze(1)) for t, s in zip((k, v), context_kv))
    result = sdpa(one, k, v, attn_mask=bias, scale=scale)
    out.index_copy_(1, queries.flatten(), result.flatten(1, 2))


GATHER_TILES = Engine(
    "tiles", "Gathers the keys of each tile. Exact, on every device.", refuses, plan, run,
    masks=True, partial_queries=True,
)  # fmt: skip
