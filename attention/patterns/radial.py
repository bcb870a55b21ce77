"""Radial attention. Li et al., https://arxiv.org/abs/2506.19852."""

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch

from ..core.tokens import Grid
from .windows import RowBands

# Distances that `sizes_in_tokens` says one by one.
MOST_SAID = 9


@dataclass(frozen=True)
class Radial:
    """Every token sees its own frame, and of other frames a band of rows around its own: half for twice the distance.

    A band is moved inwards at the edges of the picture, so that the density really halves; the paper cuts it. As in
    the paper, a band that would be thinner than one step is kept in every second, fourth ... frame instead.

    keep: percent of a frame that is seen at distance `frames` and below.
    frames: latent frames before the halving begins.
    step: tokens in a step at least, which is of whole rows.
    first_frame: whether every token sees the first frame whole.
    """

    name: ClassVar[str] = "radial"

    keep: float = 100.0
    frames: int = 1
    # The paper's blocks have 128. From 192 queries on torch's CPU kernel works in larger blocks: 1.4 instead of 1.6
    # times its share of dense time at equal density.
    step: int = 192
    first_frame: bool = True

    def on(self, grid: Grid) -> RowBands:
        frames, rows, columns = grid
        rows_each = min(rows, ceil(self.step / columns))
        steps = ceil(rows / rows_each)
        by_distance = tuple(self._size(distance, steps) for distance in range(frames))

        def size(t: int, s: int) -> int:
            return steps if self.first_frame and s == 0 else by_distance[abs(t - s)]

        sizes = [[size(t, s) for s in range(frames)] for t in range(frames)]
        return RowBands(grid, torch.tensor(sizes), rows_each)

    def sizes_in_tokens(self, grid: Grid) -> str:
        bands = self.on(grid)
        steps, rows = bands.axis(1).steps, grid[1]
        sizes = [min(self._size(distance, steps) * bands.step, rows) for distance in range(grid[0])]
        return f"of {rows} rows at a distance of 0, 1, 2 ... frames: {', '.join(map(str, sizes[:MOST_SAID]))}" + (
            " ..." if len(sizes) > MOST_SAID else ""
        )

    def _size(self, distance: int, steps: int) -> int:
        if distance == 0:
            return steps
        halvings = max(1, distance // max(1, self.frames)).bit_length() - 1
        size = steps * self.keep / 100 / 2**halvings
        if size < 1:
            return int(distance % ceil(1 / max(size, 1e-9)) == 0)
        return min(steps, round(size))
