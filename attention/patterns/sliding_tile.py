"""Sliding tile attention. Zhang et al., https://arxiv.org/abs/2502.04507."""

from dataclasses import dataclass
from typing import ClassVar

from ..core.grid import share, steps_of
from ..core.tokens import Grid
from .windows import Axis, Windows, in_words


@dataclass(frozen=True)
class SlidingTile:
    """A window that moves in steps of whole tiles: all tokens of a tile see the same tiles, so no mask is needed.

    frames: of the window, in latents.
    height: of the window, in percent of the picture's.
    width: of the window, in percent of the picture's.
    tile: (T, Y, X) in tokens. The window is rounded to the nearest number of whole tiles, and all of an axis is all of
        it, its part-filled last tile too.
    """

    name: ClassVar[str] = "sliding tile"

    frames: int = 12
    height: float = 50.0
    width: float = 50.0
    tile: Grid = (4, 8, 8)

    def on(self, grid: Grid) -> Windows:
        sizes = (self.frames, share(self.height, grid[1]), share(self.width, grid[2]))
        axes = zip(grid, sizes, self.tile)
        return Windows(grid, tuple(Axis(length, steps_of(size, length, step), step) for length, size, step in axes))

    def sizes_in_tokens(self, grid: Grid) -> str:
        return in_words(self.on(grid))
