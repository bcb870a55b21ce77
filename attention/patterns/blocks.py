"""Key blocks selected from the tensors themselves, for each head and each block of queries, by their pooled scores.

Mean-pooled selection as in SpargeAttn (https://arxiv.org/abs/2502.18137) and SLA (https://arxiv.org/abs/2509.24006).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod
from typing import ClassVar

import torch
from einops import repeat

from ..core.grid import CUBE, TILE, order, order_on
from ..core.tokens import Grid

QUERIES, KEYS = 128, 64
# Of so many blocks of queries one is looked at where two selections are compared.
SAMPLED = 8
# Of single tokens that a widget or a plan's file may ask for.
MOST_SINGLES = 256


@dataclass(frozen=True)
class TopBlocks:
    """A block of queries sees the `keep` percent of key blocks with the highest pooled scores, and its own blocks.

    keep: percent of the key blocks.
    order: in which the tokens are cut into blocks; "tile", "morton" and "hilbert" make blocks of near tokens.
    tail: whether each block that is not seen counts by its mean key and mean value, as often as it has tokens.
    refresh: for how many steps of the sampling a selection stands.
    by_heads: what each of so many groups of equal numbers of heads keeps, in the order of the heads, none more than
        `keep`; empty: all heads keep `keep`.
    singles: how many single tokens outside of its blocks a block of queries sees besides, those that its mean scores
        highest. With a tail a block's mean counts as often as it has others.
    """

    name: ClassVar[str] = "top blocks"
    amount: ClassVar[str] = "keep"

    keep: float = 20.0
    order: str = TILE
    tail: bool = False
    refresh: int = 1
    by_heads: tuple[float, ...] = ()
    singles: int = 0

    def __post_init__(self):
        refuse_larger_numbers(self)

    def number(self, blocks: int) -> int:
        """Count how many of so many key blocks are kept by their scores: `keep` percent at least."""
        # The tolerance: 1.1 percent of 1000 is 11.000000000000002.
        return min(blocks, max(1, ceil(blocks * self.keep / 100 - 1e-9)))

    def sizes_in_tokens(self, grid: Grid) -> str:
        """Say in words how many blocks are kept."""
        blocks = ceil(prod(grid) / KEYS)
        kept = ", ".join(str(group.number(blocks)) for group in split_heads(self))
        more = f", and {self.singles} single tokens" if self.singles else ""
        return f"{kept} of {blocks} blocks of {KEYS} keys, and each block's own{more}"

    def select(self, scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Select the blocks with the highest scores; see BlockPattern."""
        best = scores.topk(self.number(scores.shape[-1]), dim=-1).indices
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)


@dataclass(frozen=True)
class MassBlocks:
    """A block of queries sees the fewest key blocks that hold `mass` percent of its pooled attention, and its own.

    mass: percent of the pooled attention. How many blocks hold it is each head's own and `varies` by call.
    order: as of TopBlocks.
    tail: as of TopBlocks.
    refresh: as of TopBlocks.
    by_heads: as of TopBlocks.
    singles: as of TopBlocks.
    """

    name: ClassVar[str] = "blocks by mass"
    varies: ClassVar[bool] = True
    amount: ClassVar[str] = "mass"

    mass: float = 80.0
    order: str = TILE
    tail: bool = False
    refresh: int = 1
    by_heads: tuple[float, ...] = ()
    singles: int = 0

    def __post_init__(self):
        refuse_larger_numbers(self)

    def select(self, scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Select the blocks with the largest weights until these are the mass; see BlockPattern."""
        if self.mass >= 100:  # the last of a sum of rounded weights may stand above 1
            return torch.ones_like(scores, dtype=torch.bool)
        weights, ranked = (scores + lengths.log()).softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = weights.cumsum(-1) - weights
        return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, ranked, before < self.mass / 100)


def refuse_larger_numbers(pattern) -> None:
    """Raise ValueError for a group of heads with more than the pattern's own number, the most that engines expect."""
    most = getattr(pattern, pattern.amount)
    if any(number > most for number in pattern.by_heads):
        raise ValueError(f"by_heads: {max(pattern.by_heads):g} is more than {pattern.amount}, which is {most:g}.")


def split_heads(pattern) -> tuple:
    """List the pattern of each group of heads, with one number each."""
    if not pattern.by_heads:
        return (pattern,)
    return tuple(replace(pattern, **{pattern.amount: number}, by_heads=()) for number in pattern.by_heads)


def block_order(pattern, grid: Grid, device=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the permutation to the pattern's order, and back, both (N,), shared.

    device: where they are to be, None for the CPU.
    """
    return order(grid, pattern.order, CUBE) if device is None else order_on(device, grid, pattern.order, CUBE)


def select_blocks(pattern, q, k, scale: float | None = None, own=None) -> torch.Tensor:
    """Select the key blocks that each block of queries sees: (B, H, ceil(M / QUERIES), ceil(N / KEYS)) bool.

    q: (B, H, M, D), k: (B, Hkv, N, D), the video's tokens alone, in the pattern's order; H in as many equal parts as it
        has by_heads.
    scale: of the scores; None: 1 / sqrt(D).
    own: as of select_pooled.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return select_pooled(pattern, pool(q, QUERIES)[0], *pool(k, KEYS), scale, own=own)


def select_sample(pattern, q, k, scale: float | None = None, own=None) -> torch.Tensor:
    """Select key blocks as select_blocks does, for one in SAMPLED blocks of queries.

    q: as of select_blocks.
    k: as of select_blocks.
    own: as of select_pooled.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return select_pooled(pattern, pool(q, QUERIES)[0], *pool(k, KEYS), scale, SAMPLED, own)


def select_pooled(pattern, pooled_q, pooled_k, lengths, scale: float, every: int = 1, own=None) -> torch.Tensor:
    """Select key blocks, as select_blocks does, from the means of blocks.

    pooled_q: (B, H, R, D) float32, means of QUERIES queries each.
    pooled_k: (B, Hkv, C, D) float32, means of KEYS keys each. The same vector added to all of them changes nothing.
    lengths: (C,) float32, how many keys each block has.
    every: selects for one of so many blocks of queries.
    own: (R, C) bool, the blocks of keys that each block of queries sees whatever the scores; None: those that the
        queries are among, where all N of them are there.
    """
    rows = torch.arange(pooled_q.shape[2], device=pooled_q.device)[::every]
    pooled_q = pooled_q[:, :, ::every]
    pooled_k = pooled_k.repeat_interleave(pooled_q.shape[1] // pooled_k.shape[1], dim=1)
    scores = pooled_q @ pooled_k.transpose(-2, -1) * scale
    per = QUERIES // KEYS
    column = torch.arange(scores.shape[-1], device=scores.device)
    own = rows[:, None] == column[None, :] // per if own is None else own[rows]
    groups = split_heads(pattern)
    kept = [group.select(some, lengths) for group, some in zip(groups, scores.chunk(len(groups), 1), strict=True)]
    return torch.cat(kept, 1) | own


def pool(x: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the means of blocks of `size` tokens, the last one ragged, and count the tokens of each.

    x: (B, H, N, D). Gives (B, H, n, D) in float32 at least, and (n,) of its dtype.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    rest = x.shape[2] % size
    body = x[:, :, : x.shape[2] - rest].unflatten(2, (-1, size)).mean(dim=3, dtype=wide)
    tail = [x[:, :, -rest:].mean(dim=2, keepdim=True, dtype=wide)] if rest else []
    lengths = [size] * body.shape[2] + [rest] * len(tail)
    return torch.cat([body, *tail], dim=2), torch.tensor(lengths, dtype=wide, device=x.device)


def mask(pattern, q, k, grid: Grid, scale: float | None = None) -> torch.Tensor:
    """Make the mask of the video's tokens, (B, H, N, N) bool in raster order: what engines are compared with. Singles
    are not in it.

    q: (B, H, N, D) in raster order. For small N: the mask holds N x N.
    k: (B, H, N, D) in raster order.
    """
    to, back = block_order(pattern, grid)
    blocks = select_blocks(pattern, q[:, :, to], k[:, :, to], scale)
    n = q.shape[2]
    seen = repeat(blocks, "b h r c -> b h (r queries) (c keys)", queries=QUERIES, keys=KEYS)[:, :, :n, :n]
    return seen[:, :, back][..., back]
