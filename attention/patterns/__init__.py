"""Which video tokens attend to which: TABLE, the patterns, each with its parameters in a user's units.

A pattern with a fixed mask has `on(grid)`: the pattern in tokens, an object with

    mask_mod(b, h, q_idx, kv_idx) -> bool   over raster indices of the video's tokens, as in FlexAttention: the truth
    reach(box) -> boxes, full               boxes that hold all keys of a box of queries; full: all see all of them
    among(box, keys) -> bool                mask_mod of a box's queries and some keys, broadcasts to (mt, my, mx, K)
    leaves(), joined(seen)                  the windows and bands it is made of, and what it makes of theirs
    steps                                   sizes of boxes of queries that see alike
    signature(box)                          equal for boxes whose masks over their reach are equal
    whole                                   whether every token is known to see every token: attention is dense
    to(device)                              the same, with mask_mod for tensors there
    density                                 the part of all (query, key) pairs that see each other

and layout.lay_out makes its tiles. A pattern of blocks.py has a mask that follows from q and k: blocks.mask.
Tokens outside the video are no part of this: every token attends to them and they to every token.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

from ..core.tokens import Grid
from .adaptive import AdaptiveBlocks
from .blocks import KEYS, MassBlocks, TopBlocks, split_heads
from .combined import Intersection, Union
from .factorised import Factorised
from .neighbourhood import Neighbourhood
from .radial import Radial
from .sliding_tile import SlidingTile
from .spatial import Spatial
from .temporal import Temporal, TemporalWindow

TABLE = (
    Spatial,
    Temporal,
    Factorised,
    TemporalWindow,
    SlidingTile,
    Neighbourhood,
    Radial,
    TopBlocks,
    MassBlocks,
    AdaptiveBlocks,
    Union,
    Intersection,
)


@lru_cache(maxsize=64)
def on(pattern, grid: Grid):
    """pattern.on(grid), made once; None for a pattern whose mask follows from the tensors."""
    return pattern.on(grid) if hasattr(pattern, "on") else None


def parts(pattern, block: int = 0) -> tuple:
    """((weight, pattern), ...): what runs in the model's `block`-th block, weights adding up to 1."""
    return pattern.parts(block) if isinstance(pattern, Factorised) else ((1.0, pattern),)


def density(pattern, grid: Grid) -> float | None:
    """The part of the video's (query, key) pairs that is computed; None where only the tensors can tell.

    For a Factorised one the mean over two blocks, or the sum of both parts of an average.
    """
    if isinstance(pattern, Factorised):
        return sum(sum(density(part, grid) for _, part in pattern.parts(block)) for block in (0, 1)) / 2
    if isinstance(pattern, TopBlocks):
        groups = split_heads(pattern)
        return sum(min(1.0, group.keep / 100 + pattern.tail / KEYS) for group in groups) / len(groups)
    relation = on(pattern, grid)
    return None if relation is None else relation.density


def flop_ratio(pattern, grid: Grid, sinks: int = 0) -> float | None:
    """FLOPs of the attention of the whole sequence, over those of dense attention; None where `density` is None.

    sinks: tokens outside the video; their rows and columns are dense.
    """
    seen, video = density(pattern, grid), prod(grid)
    if seen is None:
        return None
    return (seen * video**2 + 2 * sinks * video + sinks**2) / (video + sinks) ** 2
