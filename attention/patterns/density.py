"""How much of dense attention a pattern computes."""

from __future__ import annotations

from math import prod

from ..core.tokens import Grid
from .blocks import KEYS, TopBlocks, split_heads
from .factorised import Factorised
from .spec import Pattern, parts_of, relation_of


def density(pattern: Pattern, grid: Grid) -> float | None:
    """Give the part of the video's (query, key) pairs that is computed; None where only the tensors can tell.

    For a Factorised one the mean over two blocks, or the sum of both parts of an average.
    """
    if isinstance(pattern, Factorised):
        return sum(sum(density(part, grid) for _, part in parts_of(pattern, block)) for block in (0, 1)) / 2
    if isinstance(pattern, TopBlocks):
        groups = split_heads(pattern)
        more = pattern.tail / KEYS + pattern.singles / prod(grid)
        return sum(min(1.0, group.keep / 100 + more) for group in groups) / len(groups)
    relation = relation_of(pattern, grid)
    return None if relation is None else relation.density


def flop_ratio(pattern: Pattern, grid: Grid, context_tokens: int = 0) -> float | None:
    """Give the FLOPs of the attention of the whole sequence over those of dense attention; None as of `density`.

    context_tokens: tokens outside the video; their rows and columns are dense.
    """
    seen, video = density(pattern, grid), prod(grid)
    if seen is None:
        return None
    return (seen * video**2 + 2 * context_tokens * video + context_tokens**2) / (video + context_tokens) ** 2
