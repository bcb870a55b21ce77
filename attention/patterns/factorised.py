"""Spatial and temporal attention in turn. Bertasius et al., "Divided Space-Time", https://arxiv.org/abs/2102.05095."""

from dataclasses import dataclass
from typing import ClassVar

from ..tokens import Grid
from .combined import Either
from .spatial import Spatial
from .temporal import Temporal


@dataclass(frozen=True)
class Factorised:
    """Spatial attention in even blocks and temporal in odd ones, or both averaged in every block.

    spatial: percent of the average that is spatial; None: in turn. `parts` is what runs; `on` is what a query sees
    of both together.
    """

    name: ClassVar[str] = "spatial and temporal"

    spatial: float | None = None

    def parts(self, block: int) -> tuple:
        """((weight, pattern), ...), weights adding up to 1, for the model's `block`-th block."""
        if self.spatial is None:
            return ((1.0, Temporal() if block % 2 else Spatial()),)
        weight = min(max(self.spatial / 100, 0.0), 1.0)
        return tuple((w, p) for w, p in ((weight, Spatial()), (1 - weight, Temporal())) if w)

    def on(self, grid: Grid) -> Either:
        return Either(grid, (Spatial().on(grid), Temporal().on(grid)))
