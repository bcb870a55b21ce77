"""Neighbourhood attention. Hassani et al., https://arxiv.org/abs/2204.07143; NATTEN's semantics."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.grid import share
from ..core.tokens import Grid
from .windows import Axis, Windows, in_words


@dataclass(frozen=True)
class Neighbourhood:
    """Every token sees the window around itself, moved inwards at the borders of the video.

    frames: of the window, in latents.
    height: of the window, in percent of the picture's.
    width: of the window, in percent of the picture's.
    """

    name: ClassVar[str] = "neighbourhood"

    frames: int = 9
    height: float = 50.0
    width: float = 50.0

    def window(self, grid: Grid) -> Grid:
        """Give the window in tokens, never larger than the grid."""
        frames, rows, columns = grid
        return min(frames, max(1, self.frames)), share(self.height, rows), share(self.width, columns)

    def on(self, grid: Grid) -> Windows:
        return Windows(grid, tuple(Axis(length, size) for length, size in zip(grid, self.window(grid))))

    def sizes_in_tokens(self, grid: Grid) -> str:
        return in_words(self.on(grid))
