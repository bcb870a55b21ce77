"""Cuts the queries of a fixed pattern into boxes, and orders the keys that they gather: by estimated time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import gcd, prod

import torch

from ..core.grid import TILE, boxes, order, size_of
from ..core.interruption import check_interrupt
from ..core.tokens import Grid
from ..patterns.spec import Relation, relation_of
from ..patterns.tiles import Tile, tile_of

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
    """The tiles of a pattern over a grid.

    relation: the pattern over the grid. Where there are too many masks, it makes them in the call.
    tile: the boxes in whose order keys are gathered.
    run: how many tokens lie in a row wherever keys are gathered in that order.
    tiles: of all boxes of queries. Those with equal masks have one object for them.
    """

    relation: Relation
    tile: Grid
    run: int
    tiles: tuple[Tile, ...]


def best_tile(relation) -> Grid:
    """Find the box of queries with the least estimated time: (t, y, x)."""
    grid = relation.grid
    candidates = set()
    for least in relation.tile_sizes:
        axes = [{min(size << i, length) for i in range(10)} for size, length in zip(least, grid)]
        candidates |= {tile for tile in product(*axes) if tile[0] * tile[1] * tile[2] <= MOST_QUERIES}
        candidates.add(tuple(min(size, length) for size, length in zip(least, grid)))
    few = [tile for tile in candidates if prod(-(-n // size) for n, size in zip(grid, tile)) <= MOST_BOXES]
    return min(sorted(few or candidates), key=lambda tile: estimate(relation, tile))


def estimate(relation, tile: Grid) -> float:
    """Estimate keys for each query, times the cost of a pair, from some boxes of the grid."""
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
    """Lay out the tiles of a pattern, keys in the order in which they are gathered."""
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
    """Count the bytes that masks take at most, in float32, where boxes that see alike share theirs."""
    sizes = {}
    for box in boxes(relation.grid, tile):
        check_interrupt()
        key_boxes, full = relation.key_boxes(box)
        if not full:
            sizes[relation.mask_key(box)] = size_of(box) * sum(map(size_of, key_boxes))
    return 4 * sum(sizes.values())


def shortest_run(tiles: list[Tile], back: torch.Tensor) -> int:
    """Find the most tokens that every tile's keys can be gathered by, in the order that `back` leads to."""
    run = 0
    for tile in tiles:
        check_interrupt()
        run = gcd(run, *edges(back[tile.keys.long()].sort().values))
        if run < SHORTEST_RUN:
            break
    return run


def edges(positions: torch.Tensor) -> list[int]:
    """List where runs of successive positions begin and end."""
    breaks = (positions.diff() != 1).nonzero().flatten()
    ends = torch.cat([positions[breaks] + 1, positions[breaks + 1], positions[[0]], positions[[-1]] + 1])
    return ends.tolist()


def share_mask(tile: Tile, masks: dict) -> Tile:
    """Exchange the tile's mask for an equal one of `masks`, by its content."""
    if tile.seen is None or any(tile.seen is mask for mask in masks.values()):
        return tile
    return replace(tile, seen=masks.setdefault((tile.seen.shape, tile.seen.numpy().tobytes()), tile.seen))


def reordered(tile: Tile, back: torch.Tensor) -> Tile:
    """Put the tile's keys into the order that `back` leads to."""
    rank = back[tile.keys.long()].argsort()
    return replace(tile, keys=tile.keys[rank], seen=None if tile.seen is None else tile.seen[:, rank])
