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
from ..patterns import on
from ..patterns.layout import Tile, seen_in, tile_of
from .engine import Engine, Mask, Task, joined, scratch_bytes

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
class Group:
    """Boxes of equal size. queries: (n, m), positions; keys: (n, K / run), in units of `run` tokens.

    bias: (1, 1, m, K + S) of 0 and -inf, one for all; None: no mask, or one to be made from the tiles of `made` and the
    raster indices of their keys, (n, K).
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor | None = None
    made: tuple[Tile, ...] = ()
    raster: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """permutation: of keys and values, so that whole runs of tokens are gathered; None: as they stand."""

    permutation: torch.Tensor | None
    run: int
    groups: tuple[Group, ...]
    relation: object


def refuses(task: Task, call) -> Reason | None:
    return Reason("the mask follows from the tensors") if on(task.pattern, task.grid) is None else None


def best_tile(relation) -> Grid:
    """The box of queries with the least estimated time."""
    grid = relation.grid
    candidates = set()
    for steps in relation.steps:
        axes = [{min(step << i, length) for i in range(10)} for step, length in zip(steps, grid)]
        candidates |= {tile for tile in product(*axes) if tile[0] * tile[1] * tile[2] <= MOST_QUERIES}
        candidates.add(tuple(min(step, length) for step, length in zip(steps, grid)))
    few = [tile for tile in candidates if prod(-(-n // size) for n, size in zip(grid, tile)) <= MOST_BOXES]
    return min(sorted(few or candidates), key=lambda tile: estimate(relation, tile))


def estimate(relation, tile: Grid) -> float:
    """Keys for each query, times the cost of a pair, over some boxes of the grid."""
    check_interrupt()
    cut = boxes(relation.grid, tile)
    some = cut[:: max(1, len(cut) // SAMPLED_BOXES)]
    cost = 0.0
    for box in some:
        reach, full = relation.reach(box)
        m, keys = size_of(box), sum(size_of(seen) for seen in reach)
        cost += m * keys * (FIXED + PER_BOX / m) * (1.0 if full else MASKED)
    return cost / sum(size_of(box) for box in some)


@lru_cache(maxsize=2)
def layout(pattern, grid: Grid) -> Layout:
    """The tiles of a pattern, keys in the order in which they are gathered."""
    relation = on(pattern, grid)
    best, known, masks, tiles = best_tile(relation), {}, {}, []
    kept = mask_bytes(relation, best) <= MASK_BYTES
    for box in boxes(grid, best):
        check_interrupt()
        tile = tile_of(relation, box, known, masks=kept)
        tiles.append(keep(replace(tile, keys=tile.keys.int()), masks))
    runs = {tile: shortest_run(tiles, order(grid, TILE, tile)[1]) for tile in (grid, best, *relation.steps)}
    tile = max(runs, key=runs.get)
    if runs[tile] < SHORTEST_RUN:
        return Layout(relation, grid, 1, tuple(tiles))
    masks, (_, back) = {}, order(grid, TILE, tile)
    return Layout(relation, tile, runs[tile], tuple(keep(gathered(one, back), masks) for one in tiles))


def mask_bytes(relation, tile: Grid) -> int:
    """At most so much is kept of masks, in float32, where boxes that see alike share theirs."""
    sizes = {}
    for box in boxes(relation.grid, tile):
        check_interrupt()
        reach, full = relation.reach(box)
        if not full:
            sizes[relation.signature(box)] = size_of(box) * sum(map(size_of, reach))
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


def keep(tile: Tile, masks: dict) -> Tile:
    """The tile with its mask exchanged for an equal one of `masks`, by their content."""
    if tile.seen is None or any(tile.seen is mask for mask in masks.values()):
        return tile
    return replace(tile, seen=masks.setdefault((tile.seen.shape, tile.seen.numpy().tobytes()), tile.seen))


def gathered(tile: Tile, back: torch.Tensor) -> Tile:
    """The tile with its keys in the order that `back` leads to."""
    rank = back[tile.keys.long()].argsort()
    return replace(tile, keys=tile.keys[rank], seen=None if tile.seen is None else tile.seen[:, rank])


def plan(task: Task, device: torch.device, dtype: torch.dtype) -> Plan:
    found = layout(task.pattern, task.grid)
    to, back = order(task.grid, TILE, found.tile)
    alike: dict[tuple, list[Tile]] = {}
    for tile in found.tiles if task.whole else part_of(task, found.tiles):
        alike.setdefault((len(tile.queries), len(tile.keys), tile.full, id(tile.seen)), []).append(tile)
    groups = tuple(group(task, found, tiles, back, device, dtype) for tiles in alike.values())
    permutation = task.positions(to)
    moved = found.run > 1 and not permutation.equal(torch.arange(task.tokens))
    return Plan(permutation.to(device) if moved else None, found.run, groups, found.relation.to(device))


def part_of(task: Task, tiles: Iterable[Tile]) -> Iterator[Tile]:
    """The tiles with those of their queries alone that the call has."""
    (first, last), masks = task.video_span.cut, {}
    for tile in tiles:
        at = task.positions(tile.queries)
        some = (at >= first) & (at < last)
        if some.any():
            seen = None if tile.seen is None else tile.seen[some]
            yield keep(replace(tile, queries=tile.queries[some], seen=seen, rows=some), masks)


def group(task: Task, found: Layout, tiles: list[Tile], back, device, dtype) -> Group:
    check_interrupt()
    queries, keys = (torch.stack([getattr(t, name) for t in tiles]).long() for name in ("queries", "keys"))
    units = back[keys][:, :: found.run] // found.run if found.run > 1 else task.positions(keys)
    bias, made, raster, seen = None, (), None, tiles[0].seen
    if seen is not None:
        bias = additive(seen[None, None].to(device), task.sinks, dtype)
    elif not tiles[0].full:
        # The boxes and rows alone: what else the tiles hold would be held twice.
        made = tuple(replace(tile, queries=tile.queries[:0], keys=tile.keys[:0]) for tile in tiles)
        raster = keys.int().to(device)
    at = task.positions(queries) - task.video_span.cut[0]
    return Group(at.to(device), units.int().to(device), bias, made, raster)


def additive(seen: torch.Tensor, sinks: int, dtype: torch.dtype) -> torch.Tensor:
    """(..., m, K) bool as 0 and -inf, followed by `sinks` columns of 0."""
    bias = torch.zeros(*seen.shape[:-1], seen.shape[-1] + sinks, dtype=dtype, device=seen.device)
    bias[..., : seen.shape[-1]].masked_fill_(~seen, -torch.inf)
    return bias


def run(video, sinks, scale, plan: Plan, mask: Mask | None = None) -> torch.Tensor:
    (batch, heads, number, dim), tokens = video[0].shape, video[1].shape[2]
    q, k, v = (t.flatten(0, 1) for t in video)
    sinks = tuple(s.flatten(0, 1) for s in sinks)
    if plan.permutation is not None:
        k, v = (t.index_select(1, plan.permutation) for t in (k, v))
    k, v = (t.contiguous().view(batch * heads, tokens // plan.run, plan.run * dim) for t in (k, v))
    out = q.new_empty(batch * heads, number, dim)
    for some in plan.groups:
        known = None
        for rows, members in chunks(some, batch * heads, dim, plan.run, sinks[0].shape[1], q, mask):
            queries, keys = some.queries[members], some.keys[members]
            if known is None or known[0] != members:
                known = members, structural(plan, some, members, sinks[0].shape[1], q)
            bias = known[1]
            if mask is not None:
                heads_of = torch.arange(rows.start, min(rows.stop, len(q)), device=q.device)
                own = mask.gathered((heads_of // heads, heads_of % heads), queries, tokens_at(plan, keys), q.dtype)
                bias = own if bias is None else own + bias
            attend(q[rows], k[rows], v[rows], tuple(s[rows] for s in sinks), scale, bias, queries, keys, out[rows])
    return out.unflatten(0, (batch, heads))


def chunks(some: Group, rows: int, dim: int, run: int, sinks: int, q: torch.Tensor, mask: Mask | None = None):
    """(slice of heads, slice of boxes) such that what is gathered for them stays within scratch_bytes."""
    n, m = some.queries.shape
    keys = some.keys.shape[1] * run
    copies = 4 if sinks else 2
    one = (copies * (keys + sinks) + 3 * m) * dim * q.element_size()
    seen = m * (keys + sinks) * q.element_size() * 2
    shared = seen if some.made or mask is not None else 0
    if mask is not None and mask.video.shape[0] * mask.video.shape[1] > 1:
        one += seen if mask.rows > 1 or some.made or some.bias is not None else seen // m
    budget = scratch_bytes(q.device)
    heads = max(1, min(rows, (budget - shared) // one))
    boxes_each = max(1, min(n, budget // (one * heads + shared)))
    for a in range(0, n, boxes_each):
        for b in range(0, rows, heads):
            yield slice(b, b + heads), slice(a, a + boxes_each)


def structural(plan: Plan, some: Group, members: slice, sinks: int, q: torch.Tensor) -> torch.Tensor | None:
    """What the pattern adds to the scores of some boxes of a group, (1, n|1, m, K + S); None: nothing."""
    if not some.made:
        return some.bias
    found = []
    for tile, keys in zip(some.made[members], some.raster[members]):
        seen = seen_in(plan.relation, tile.box, keys)
        found.append(seen if tile.rows is None else seen[tile.rows.to(seen.device)])
    return additive(torch.stack(found)[None], sinks, q.dtype)


def tokens_at(plan: Plan, keys: torch.Tensor) -> torch.Tensor:
    """Where in the call the tokens of gathered units stand, from the video's first: (n, K / run) -> (n, K)."""
    keys = (keys[..., None] * plan.run + torch.arange(plan.run, device=keys.device)).flatten(-2)
    return keys.long() if plan.permutation is None else plan.permutation[keys.long()]


def attend(q, k, v, sinks, scale, bias, queries, keys, out) -> None:
    """Some boxes of a group for some heads; q, out: (R, M, D), k, v: (R, N / run, run * D), sinks: (R, S, D)."""
    (n, m), dim = queries.shape, q.shape[-1]
    one = q.index_select(1, queries.flatten()).unflatten(1, (n, m))
    k, v = (t.index_select(1, keys.flatten()).view(len(q), n, -1, dim) for t in (k, v))
    k, v = (joined(t, s.unsqueeze(1)) for t, s in zip((k, v), sinks))
    result = sdpa(one, k, v, attn_mask=bias, scale=scale)
    out.index_copy_(1, queries.flatten(), result.flatten(1, 2))


TILES = Engine(
    "tiles", "Gathers the keys of each tile. Exact, on every device.", refuses, plan, run, masks=True, cuts=True
)
