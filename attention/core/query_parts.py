"""The masks of a self-attention that is done in several calls, each of some of the queries with all keys."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .identity import KeepsIdentity

# (first query, one past the last, (1, 1, 1|queries, keys) or None where they see all).
Part = tuple[int, int, torch.Tensor | None]


class QueryParts(KeepsIdentity):
    """Stands for the mask of one call of all queries, until whoever answers it makes a call of each part.

    parts: that together are all queries, in their order.
    told: a tensor that differs where the masks of two do.
    """

    __slots__ = ("parts", "told")

    def __init__(self, parts: tuple[Part, ...], told: torch.Tensor):
        self.parts, self.told = tuple(part for part in parts if part[0] < part[1]), told

    def each(self, answer: Callable[[int, int, torch.Tensor | None], torch.Tensor]) -> torch.Tensor:
        """Put the outputs of the parts together: (B, H, queries, D).

        answer: what gives that of one part.
        """
        return torch.cat([answer(*part) for part in self.parts], 2)
