"""Long Video Sparse Attention: windows over time and global anchors that move on. Glorian et al.,
https://arxiv.org/abs/2605.31057.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch

from ..core.tokens import Grid
from .windows import RowBands

# Each turn is planned by itself. A clip that would need more has more anchors instead.
MOST_TURNS = 24


@dataclass(frozen=True)
class LongVideo:
    """Every token sees as many latent frames as the model was trained with, whole: anchors, one every few frames of the
    clip, and the frames nearest to its own. With each evaluation of the model and from block to block the anchors move
    on by a frame, so that every frame is an anchor once in as many turns as they are apart.

    As in the paper a window is wider where anchors lie in it: all tokens see equally many frames.

    frames: latent frames that a token sees in all.
    window: percent of them around the token's own; the others are anchors.
    first_frame: whether every token sees the first frame.
    `turns` is what runs, one after the other; `on` is the first of them.
    """

    name: ClassVar[str] = "long video"

    frames: int = 21
    window: float = 50.0
    first_frame: bool = True

    def turns(self, grid: Grid) -> tuple[Anchored, ...]:
        """List the patterns that take turns: one for each place that the anchors can have."""
        return tuple(Anchored(self, place) for place in range(self._apart(grid[0])))

    def on(self, grid: Grid) -> RowBands:
        return Anchored(self, 0).on(grid)

    def sizes_in_tokens(self, grid: Grid) -> str:
        total, apart = grid[0], self._apart(grid[0])
        seen, anchors = self.seen(total), len(self.anchors(total, 0))
        if seen >= total:
            return ""
        return (
            f"{seen} of {total} frames, {anchors} of them anchors at a time; every frame is an anchor once in {apart} "
            "turns of steps and blocks"
        )

    def anchors(self, total: int, place: int) -> list[int]:
        """List the anchors among `total` frames.

        place: how far they have moved on, less than they are apart.
        """
        found = {(place + frame) % total for frame in self._steps(total)}
        return sorted(found | {0}) if self.first_frame else sorted(found)

    def seen(self, total: int) -> int:
        """Count the frames that a token sees."""
        return min(total, max(self.frames, len(self._steps(total)) + self.first_frame + self._local))

    @property
    def _local(self) -> int:
        return max(1, round(self.frames * self.window / 100))

    def _steps(self, total: int) -> range:
        """Give the anchors from the first one on."""
        free = self.frames - self._local - self.first_frame
        return range(0, total, self._apart(total)) if free > 0 else range(0)

    def _apart(self, total: int) -> int:
        """Count from one anchor to the next."""
        free = self.frames - self._local - self.first_frame
        return min(total, MOST_TURNS, ceil(total / free)) if free > 0 else 1


@dataclass(frozen=True)
class Anchored:
    """Long Video Sparse Attention with its anchors in one place.

    of: the LongVideo.
    place: how far the anchors have moved on.
    """

    name: ClassVar[str] = LongVideo.name

    of: LongVideo
    place: int

    def on(self, grid: Grid) -> RowBands:
        total, rows, _ = grid
        frame, anchors = torch.arange(total), self.of.anchors(total, self.place)
        # The frame before is nearer than the one behind: ties have one order.
        far = 2 * (frame[:, None] - frame).abs() + (frame > frame[:, None])
        far[:, anchors] = 3 * total
        nearest = far.argsort(dim=1)[:, : self.of.seen(total) - len(anchors)]
        table = torch.zeros(total, total, dtype=torch.int64).scatter_(1, nearest, 1)
        table[:, anchors] = 1
        # One step of rows, the whole picture.
        return RowBands(grid, table, rows)
