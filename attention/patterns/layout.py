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
    """queries: (m,), keys: (K,), raster indices, ascending; every key is seen by one query at least.

    full: every query sees every key. Else `seen`, (m, K) bool, says which; None where it was not asked for.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    full: bool
    seen: torch.Tensor | None = None


def tile_of(relation, box: Box, known: dict | None = None, masks: bool = True) -> Tile:
    """The Tile of a box of queries. known: masks of earlier boxes by their signature, read and written."""
    reach, full = relation.reach(box)
    queries, keys = tokens_of(relation.grid, box), torch.cat([tokens_of(relation.grid, seen) for seen in reach])
    if len(reach) > 1:
        keys = keys.unique()
    signature = None if full else relation.signature(box)
    if full or (signature is not None and not masks):
        return Tile(queries, keys, full)
    known = {} if known is None else known
    seen = known.get(signature)
    if seen is None:
        seen = relation.mask_mod(0, 0, queries[:, None], keys[None, :])
    if signature is not None:
        known[signature] = seen
    elif not (used := seen.any(0)).all():
        keys, seen = keys[used], seen[:, used]
    full = bool(seen.all())
    return Tile(queries, keys, full, None if full or not masks else seen)


def lay_out(relation, tile: Grid) -> Iterator[Tile]:
    """The Tiles of all boxes of `tile` queries, one at a time."""
    known: dict = {}
    return (tile_of(relation, box, known) for box in boxes(relation.grid, tile))


def count(relation) -> int:
    """How many (query, key) pairs see each other. Looks at every pair within reach: seconds for 100 000 tokens."""
    return sum(
        len(tile.queries) * len(tile.keys) if tile.full else int(tile.seen.sum()) for tile in lay_out(relation, COUNTED)
    )
