"""What a pattern is, and what it is over one grid of tokens.

Tokens outside the video are no part of this: every token attends to them and they to every token.

A Pattern holds the parameters in a user's units. One with a fixed mask has `on(grid)`, which gives its Relation. One
whose mask follows from q and k has `select(scores, lengths)` instead; blocks.py makes its mask.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Protocol, TypeGuard

import torch

from ..core.grid import Box
from ..core.tokens import Grid


class Pattern(Protocol):
    """Which video tokens attend to which, in a user's units: a frozen dataclass, one row of the table.

    name: as users and saved files know it.
    It may have three more methods. `in_block(block)` gives ((weight, pattern), ...), weights adding up to 1, for a
    pattern that is another one in other blocks of the model. `turns(grid)` gives the patterns that take turns, for one
    that moves on with each evaluation of the model and each block; all must cost the same. `sizes_in_tokens(grid)` says
    in words what its sizes became.
    """

    name: ClassVar[str]


class FixedPattern(Pattern, Protocol):
    """A pattern whose mask follows from the grid alone."""

    def on(self, grid: Grid) -> Relation:
        """Give what the pattern is over (T, Y, X) tokens."""


class BlockPattern(Pattern, Protocol):
    """A pattern whose mask follows from q and k: blocks of queries see the blocks of keys that it selects.

    order: in which the tokens are cut into blocks, one of grid.ORDERS.
    tail: whether each block that is not selected counts by its mean key and mean value, as often as it has tokens.
    refresh: for how many steps of the sampling a selection stands.
    by_heads: one number for each of so many groups of equal numbers of heads, in the order of the heads; empty: all
        heads have the pattern's own.
    singles: how many single tokens outside of the selected blocks are seen besides.
    One whose number is a percentage says by `amount` which field it is, one with another number by `threshold`; and by
    `varies` that its blocks vary by call.
    """

    order: str
    tail: bool
    refresh: int
    by_heads: tuple[float, ...]
    singles: int

    def select(self, scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Select key blocks: bool of the scores' shape.

        scores: (..., blocks of queries, blocks of keys) float32, the blocks' mean queries times mean keys, scaled.
        lengths: (blocks of keys,), how many keys each has.
        """


class Relation(Protocol):
    """A fixed pattern over one grid: which of its N = T * Y * X tokens see which.

    grid: (T, Y, X).
    tile_sizes: sizes of boxes of queries that see alike, each (t, y, x).
    is_dense: whether every token is known to see every token.
    density: the part of all (query, key) pairs that see each other.
    """

    grid: Grid

    @property
    def tile_sizes(self) -> tuple[Grid, ...]: ...

    @property
    def is_dense(self) -> bool: ...

    @property
    def density(self) -> float: ...

    def mask_mod(self, b, h, q_idx, kv_idx):
        """Tell which queries see which keys, as FlexAttention asks it: the truth that all else is compared with.

        b: batch entry, which does not matter here.
        h: head, which does not matter here.
        q_idx: raster indices of queries, an integer tensor.
        kv_idx: raster indices of keys, which broadcast with q_idx. Gives bool of their common shape.
        """

    def key_boxes(self, box: Box) -> tuple[tuple[Box, ...], bool]:
        """Give boxes that hold all keys of a box of queries, and whether all these queries see all of them."""

    def mask_within(self, box: Box, keys: torch.Tensor) -> torch.Tensor:
        """Give mask_mod of a box of queries and keys of raster indices (K,): broadcasts to (t, y, x, K) bool."""

    def mask_key(self, box: Box) -> tuple:
        """Give what is equal for boxes whose masks over their key_boxes are equal."""

    def leaves(self) -> tuple:
        """List the windows and bands that this is made of."""

    def combine(self, seen: list[bool]) -> bool:
        """Tell whether a pair is seen, by whether each of `leaves` lets it be seen: taken from the front of `seen`."""

    def to(self, device) -> Relation:
        """Give the same with mask_mod for tensors on a device."""


def is_fixed(pattern: Pattern) -> TypeGuard[FixedPattern]:
    """Tell whether a pattern's mask follows from the grid alone."""
    return hasattr(pattern, "on")


@lru_cache(maxsize=64)
def relation_of(pattern: Pattern, grid: Grid) -> Relation | None:
    """Make pattern.on(grid), once; None for a pattern whose mask follows from the tensors."""
    return pattern.on(grid) if is_fixed(pattern) else None


def parts_of(pattern: Pattern, block: int = 0) -> tuple[tuple[float, Pattern], ...]:
    """List ((weight, pattern), ...): what runs in the model's `block`-th block, weights adding up to 1."""
    return pattern.in_block(block) if hasattr(pattern, "in_block") else ((1.0, pattern),)


def turns_of(pattern: Pattern, grid: Grid, block: int = 0) -> tuple[Pattern, ...]:
    """List what runs in the model's `block`-th block in one evaluation after the other, then from the first again."""
    if not hasattr(pattern, "turns"):
        return (pattern,)
    turns = pattern.turns(grid)
    first = block % len(turns)
    return (*turns[first:], *turns[:first])
