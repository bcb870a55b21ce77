"""Key blocks selected by how far their pooled scores stand out, as Sol-Attn does (https://arxiv.org/abs/2607.24027)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..core.grid import TILE


@dataclass(frozen=True)
class AdaptiveBlocks:
    """A block of queries sees the key blocks whose pooled score is more than `tau` standard deviations above the mean
    of its scores, and its own. How many that are is each head's and each block's own; a higher tau sees less.

    tau: standard deviations above the mean.
    order: as of TopBlocks.
    tail: as of TopBlocks.
    refresh: as of TopBlocks.
    singles: as of TopBlocks.
    """

    name: ClassVar[str] = "adaptive blocks"
    threshold: ClassVar[str] = "tau"
    by_heads: ClassVar[tuple[float, ...]] = ()

    tau: float = 1.0
    order: str = TILE
    tail: bool = False
    refresh: int = 1
    singles: int = 0

    def select(self, scores: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Select the key blocks that stand out; see BlockPattern."""
        above = scores - scores.mean(dim=-1, keepdim=True)
        return above > self.tau * above.square().mean(dim=-1, keepdim=True).sqrt()
