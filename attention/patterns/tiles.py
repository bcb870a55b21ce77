"""The tiles of a pattern: for every box of queries, the keys that it needs and whether all see all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import chain, product

import torch

from ..core.grid import Box, tokens_of
from .spec import Relation


@dataclass(frozen=True, eq=False)
class Tile:
    """A box of queries and the keys that it needs.

    queries: (m,), keys: (K,), raster indices, ascending; every key is seen by one query at least.
    full: whether every query sees every key.
    seen: (m, K) bool, which queries see which keys; None where all do, or where it was not asked for: keys may then be
        there that no query sees.
    box: of the queries.
    rows: which of the box's tokens the queries are; None: all.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    full: bool
    seen: torch.Tensor | None = None
    box: Box | None = None
    rows: torch.Tensor | None = None


def mask_in(relation: Relation, box: Box, keys: torch.Tensor) -> torch.Tensor:
    """Make relation.mask_mod of a box of queries and keys of raster indices (K,), from each axis by itself: (m, K)."""
    return relation.mask_within(box, keys).expand(*(stop - start for start, stop in box), len(keys)).flatten(0, 2)


def tile_of(relation: Relation, box: Box, known: dict | None = None, masks: bool = True) -> Tile:
    """Make the Tile of a box of queries.

    known: masks of earlier boxes by their mask_key, read and written; None: there are none.
    masks: whether its mask is asked for.
    """
    key_boxes, full = relation.key_boxes(box)
    queries, keys = tokens_of(relation.grid, box), torch.cat([tokens_of(relation.grid, seen) for seen in key_boxes])
    if len(key_boxes) > 1:
        keys = keys.unique()
    if full or not masks:
        return Tile(queries, keys, full, box=box)
    known, key = {} if known is None else known, relation.mask_key(box)
    if key not in known:
        seen = mask_in(relation, box, keys)
        used = seen.any(0)
        known[key] = (None, seen) if used.all() else (used, seen[:, used])
    used, seen = known[key]
    keys, full = keys if used is None else keys[used], bool(seen.all())
    return Tile(queries, keys, full, None if full else seen, box)


def count_pairs(relation: Relation) -> int:
    """Count the (query, key) pairs that see each other.

    Whether two tokens do follows, for each leaf of the relation, from their frames, rows and columns apart: pairs that
    all leaves treat alike are counted together.
    """
    leaves = relation.leaves()
    columns = histogram([leaf.columns() for leaf in leaves])
    by_times = Counter(zip(*(chain.from_iterable(leaf.times()) for leaf in leaves)))
    total, known = 0, {}
    for times, frames in by_times.items():
        if times not in known:
            rows = histogram([leaf.rows(time) for leaf, time in zip(leaves, times)])
            known[times] = sum(
                n * m
                for (a, n), (b, m) in product(rows.items(), columns.items())
                if relation.combine([bool((a & b) >> i & 1) for i in range(len(leaves))])
            )
        total += frames * known[times]
    return total


def histogram(tables: list[torch.Tensor]) -> dict[int, int]:
    """Count how often each combination of equally large bool tables occurs: bit i for table i."""
    bits = sum(table.long() << i for i, table in enumerate(tables))
    values, counts = bits.unique(return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))
