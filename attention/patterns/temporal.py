"""Attention along time."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.tokens import Grid
from .windows import Axis, Windows, in_words, whole_axis


@dataclass(frozen=True)
class Temporal:
    """Every token sees its own place in all frames."""

    name: ClassVar[str] = "temporal"

    def on(self, grid: Grid) -> Windows:
        frames, rows, columns = grid
        return Windows(grid, (whole_axis(frames), Axis(rows, 1), Axis(columns, 1)))


@dataclass(frozen=True)
class TemporalWindow:
    """Every token sees the `frames` latent frames nearest to its own, whole."""

    name: ClassVar[str] = "temporal window"

    frames: int = 5

    def on(self, grid: Grid) -> Windows:
        frames, rows, columns = grid
        return Windows(grid, (Axis(frames, max(1, self.frames)), whole_axis(rows), whole_axis(columns)))

    def sizes_in_tokens(self, grid: Grid) -> str:
        return in_words(self.on(grid))
