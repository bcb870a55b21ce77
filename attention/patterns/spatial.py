"""Attention inside a frame."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.tokens import Grid
from .windows import Axis, Windows, whole_axis


@dataclass(frozen=True)
class Spatial:
    """Every token sees its own frame."""

    name: ClassVar[str] = "spatial"

    def on(self, grid: Grid) -> Windows:
        frames, rows, columns = grid
        return Windows(grid, (Axis(frames, 1), whole_axis(rows), whole_axis(columns)))
