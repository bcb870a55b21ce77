"""How one sequence of tokens lies over several ranks, and which rank has which heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def cut(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Share `total` out by weights, in whole numbers that add up to it.

    weights: one for each rank, above 0; all alike for parts that differ by 1 at most.
    """
    whole = sum(weights)
    exact = [total * weight / whole for weight in weights]
    parts = [int(part) for part in exact]
    # What rounding down left over goes to those that lost most by it; among equals to the first.
    by_loss = sorted(range(len(parts)), key=lambda rank: (parts[rank] - exact[rank], rank))
    for rank in by_loss[: total - sum(parts)]:
        parts[rank] += 1
    return tuple(parts)


def cut_heads(heads: int, key_heads: int, weights: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Share heads out: (query heads, key heads) of each rank. Queries stay with their keys.

    Each rank gets one at least, where there are as many: kernels need not stand a call without heads. torch's for the
    CPU divides by their number, which ends the process.

    heads: of the queries, a multiple of `key_heads`.
    key_heads: of the keys.
    weights: as of `cut`.
    """
    keys = list(cut(key_heads, weights))
    while 0 in keys and max(keys) > 1:
        keys[keys.index(max(keys))] -= 1
        keys[keys.index(0)] += 1
    return tuple(part * (heads // key_heads) for part in keys), tuple(keys)


@dataclass(frozen=True)
class Spread:
    """Says how one sequence lies over ranks: [`before` tokens that every rank has | the rank's own of the shared ones].

    sizes: shared tokens of each rank, in their order.
    before: tokens in front of them that every rank has.
    """

    sizes: tuple[int, ...]
    before: int = 0

    @property
    def length(self) -> int:
        """Count the tokens of the whole sequence."""
        return self.before + sum(self.sizes)

    def local(self, rank: int) -> int:
        """Count the tokens that a rank has."""
        return self.before + self.sizes[rank]

    def start(self, rank: int) -> int:
        """Return where in the whole sequence the rank's own tokens begin."""
        return self.before + sum(self.sizes[:rank])

    def part(self, x: torch.Tensor, rank: int, dim: int = 1) -> torch.Tensor:
        """Return a rank's tokens of a whole sequence; a view where every token is one rank's.

        x: any shape with `length` entries along `dim`.
        """
        own = x.narrow(dim, self.start(rank), self.sizes[rank])
        return torch.cat([x.narrow(dim, 0, self.before), own], dim) if self.before else own
