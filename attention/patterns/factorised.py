"""Spatial and temporal attention in turn. Bertasius et al., "Divided Space-Time", https://arxiv.org/abs/2102.05095."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.tokens import Grid
from .combined import AnyOf
from .spatial import Spatial
from .temporal import Temporal


@dataclass(frozen=True)
class Factorised:
    """Spatial attention in even blocks and temporal in odd ones, or both averaged in every block.

    weight: of spatial attention in the average, 0 to 1; None: in turn.
    `in_block` is what runs; `on` is what a query sees of both together.
    """

    name: ClassVar[str] = "spatial and temporal"

    weight: float | None = None

    def __post_init__(self):
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise ValueError(f"{self.name}: weight {self.weight:g}, takes 0 to 1.")

    def in_block(self, block: int) -> tuple:
        """List ((weight, pattern), ...), weights adding up to 1, for the model's `block`-th block."""
        if self.weight is None:
            return ((1.0, Temporal() if block % 2 else Spatial()),)
        return tuple((w, p) for w, p in ((self.weight, Spatial()), (1 - self.weight, Temporal())) if w)

    def on(self, grid: Grid) -> AnyOf:
        return AnyOf(grid, (Spatial().on(grid), Temporal().on(grid)))
