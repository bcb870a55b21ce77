"""The tile layout of a pattern: for every box of queries, the keys that it needs and whether all see all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..grid import Box, boxes, tokens_of
from ..tokens import Grid

# A box of queries to count with: large enough to be quick, small enough for the (queries, keys) it is counted in.
COUNTED = (1, 8, 32)


@dataclass(frozen=True, eq=False)
class Tile:
    """queries: (m,), keys: (K,), raster indices, ascending. seen: (m, K) bool, or None when every query sees every key.

    Every key is seen by one query at least.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    seen: torch.Tensor | None


def tile_of(relation, box: Box) -> Tile:
    """The Tile of a box of queries."""
    reach, full = relation.reach(box)
    queries, keys = tokens_of(relation.grid, box), torch.cat([tokens_of(relation.grid, seen) for seen in reach])
    if len(reach) > 1:
        keys = keys.unique()
    if full:
        return Tile(queries, keys, None)
    seen = relation.mask_mod(0, 0, queries[:, None], keys[None, :])
    used = seen.any(0)
    keys, seen = keys[used], seen[:, used]
    return Tile(queries, keys, None if seen.all() else seen)


def lay_out(relation, tile: Grid) -> Iterator[Tile]:
    """The Tiles of all boxes of `tile` queries, one at a time."""
    return (tile_of(relation, box) for box in boxes(relation.grid, tile))


def count(relation) -> int:
    """How many (query, key) pairs see each other. Looks at every pair within reach: seconds for 100 000 tokens."""
    return sum(
        len(tile.queries) * len(tile.keys) if tile.seen is None else int(tile.seen.sum())
        for tile in lay_out(relation, COUNTED)
    )
