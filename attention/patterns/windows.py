"""A window along each axis: what spatial, temporal, sliding-tile and neighbourhood attention have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from math import prod

import torch

from ..core.grid import Box, coordinates, cut
from ..core.tokens import Grid


@dataclass(frozen=True)
class Axis:
    """One axis along which a position sees the `size` steps around its own.

    length: positions.
    size: of the window, in steps.
    step: positions of a step.
    The window is moved inwards at the ends, not cut, as in neighbourhood attention (https://arxiv.org/abs/2204.07143).
    """

    length: int
    size: int
    step: int = 1

    @property
    def steps(self) -> int:
        """Count how many steps the axis has."""
        return -(-self.length // self.step)

    def start(self, position):
        """Find the first step that a position sees: an int or an integer tensor."""
        size = min(self.size, self.steps)
        last, start = self.steps - size, position // self.step - size // 2
        return min(max(start, 0), last) if isinstance(start, int) else start.clamp(0, last)

    def sees(self, query, key):
        """Tell which positions see which: bool, of two integer tensors that broadcast."""
        start, step = self.start(query), key // self.step
        return (step >= start) & (step < start + self.size)

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """Give the positions that any of start..stop sees."""
        last = self.start(stop - 1) + min(self.size, self.steps)
        return self.start(start) * self.step, min(last * self.step, self.length)

    def same_window(self, start: int, stop: int) -> bool:
        """Tell whether all of start..stop see the same positions."""
        return self.start(start) == self.start(stop - 1)

    def mask_key(self, start: int, stop: int) -> tuple:
        """Give what is equal for ranges whose positions see alike, counted from the first that any of them sees."""
        first, last = self.reach(start, stop)
        return (last - first, *(self.start(i) * self.step - first for i in range(start, stop)))

    @cached_property
    def pairs(self) -> int:
        """Count how many (query, key) pairs of positions see each other."""
        return sum(
            (b - a) * (stop - start) for a, b in cut(self.length, self.step) for start, stop in [self.reach(a, b)]
        )


def whole_axis(length: int) -> Axis:
    """Make an axis along which every position sees every one."""
    return Axis(length, length)


@dataclass(frozen=True)
class Windows:
    """A query sees the product of one window along each axis.

    grid: (T, Y, X).
    """

    grid: Grid
    axes: tuple[Axis, Axis, Axis]

    @property
    def tile_sizes(self) -> tuple[Grid, ...]:
        return (tuple(axis.step if axis.size < axis.steps else 1 for axis in self.axes),)

    @property
    def is_dense(self) -> bool:
        return all(axis.size >= axis.steps for axis in self.axes)

    def to(self, device) -> Windows:
        return self

    def mask_key(self, box: Box) -> tuple:
        return tuple(axis.mask_key(*span) for axis, span in zip(self.axes, box))

    def mask_mod(self, b, h, q_idx, kv_idx):
        places = zip(self.axes, coordinates(self.grid, q_idx), coordinates(self.grid, kv_idx))
        t, y, x = (axis.sees(query, key) for axis, query, key in places)
        return t & y & x

    def mask_within(self, box: Box, keys: torch.Tensor) -> torch.Tensor:
        seen = torch.ones(1, 1, 1, len(keys), dtype=torch.bool, device=keys.device)
        for number, (axis, (start, stop), at) in enumerate(zip(self.axes, box, coordinates(self.grid, keys))):
            if axis.size < axis.steps:
                shape = [1, 1, 1, len(keys)]
                shape[number] = stop - start
                seen = seen & axis.sees(torch.arange(start, stop, device=keys.device)[:, None], at).view(shape)
        return seen

    def leaves(self) -> tuple:
        return (self,)

    def combine(self, seen: list) -> bool:
        return seen.pop(0)

    def times(self) -> list[list]:
        """List for frames t and s whatever tells how t sees s's rows: here one or zero."""
        t = torch.arange(self.grid[0])
        return self.axes[0].sees(t[:, None], t[None]).int().tolist()

    def rows(self, time) -> torch.Tensor:
        """Tell which rows see which, (Y, Y) bool, at one value of `times`."""
        y = torch.arange(self.grid[1])
        return self.axes[1].sees(y[:, None], y[None]) if time else torch.zeros(len(y), len(y), dtype=torch.bool)

    def columns(self) -> torch.Tensor:
        """Tell which columns see which, (X, X) bool."""
        x = torch.arange(self.grid[2])
        return self.axes[2].sees(x[:, None], x[None])

    def key_boxes(self, box: Box) -> tuple[tuple[Box, ...], bool]:
        seen = tuple(axis.reach(*span) for axis, span in zip(self.axes, box))
        return (seen,), all(axis.same_window(*span) for axis, span in zip(self.axes, box))

    @property
    def density(self) -> float:
        return prod(axis.pairs for axis in self.axes) / prod(self.grid) ** 2


def in_words(windows: Windows) -> str:
    """Say what sizes in a user's units became: `window of 12 of 21 frames, 24 of 52 columns (3 of 7 tiles) ...`."""
    words = []
    for axis, name in zip(windows.axes, ("frames", "rows", "columns")):
        size = min(axis.size, axis.steps)
        tiles = "" if axis.step == 1 else f" ({size} of {axis.steps} tiles)"
        words.append(f"{min(size * axis.step, axis.length)} of {axis.length} {name}{tiles}")
    return f"window of {', '.join(words)}"


@dataclass(frozen=True, eq=False)
class RowBands:
    """A window of rows whose size depends on the two frames; columns are seen whole.

    grid: (T, Y, X).
    table: (T, T) int64, how many steps of rows a query in frame t sees of frame s; 0: none of them.
    step: rows of a step.
    """

    grid: Grid
    table: torch.Tensor
    step: int

    @cached_property
    def sizes(self) -> list[list[int]]:
        """Return the table as lists."""
        return self.table.tolist()

    @property
    def is_dense(self) -> bool:
        return bool((self.table >= self.axis(1).steps).all())

    def mask_key(self, box: Box) -> tuple:
        (t0, t1), rows, (x0, x1) = box
        sizes = tuple(zip(*(seen for seen in zip(*self.sizes[t0:t1]) if any(seen))))
        used = sorted({size for row in sizes for size in row if size})
        # Keys of a frame that some see whole and others in part stand as in the frame: where these are in it counts.
        apart = all(len({size for size in seen if size}) < 2 for seen in zip(*sizes))
        return x1 - x0, sizes, tuple(self.axis(size).mask_key(*rows) + self.shift(size, rows, apart) for size in used)

    def shift(self, size: int, rows: tuple[int, int], apart: bool) -> tuple[int, ...]:
        """Give where the first row seen is, from the first that sees; nothing of a frame that all rows see whole.

        apart: whether no frame is seen in several sizes.
        """
        axis = self.axis(size)
        return () if apart and size >= axis.steps else (axis.reach(*rows)[0] - rows[0],)

    def to(self, device) -> RowBands:
        # Captured, not made in mask_mod: FlexAttention's compiler takes no tensor that is made there.
        return replace(self, table=self.table.to(device))

    @property
    def tile_sizes(self) -> tuple[Grid, ...]:
        return ((1, self.step, self.grid[2]),)

    def axis(self, size: int) -> Axis:
        """Make the axis of rows with a window of `size` steps."""
        return Axis(self.grid[1], size, self.step)

    def mask_mod(self, b, h, q_idx, kv_idx):
        (t, y, _), (s, row, _) = coordinates(self.grid, q_idx), coordinates(self.grid, kv_idx)
        size, band, steps = self.table[t, s], y // self.step, self.axis(1).steps
        start, step = (band - size // 2).clamp(min=0).minimum(steps - size), row // self.step
        return (step >= start) & (step < start + size)

    def mask_within(self, box: Box, keys: torch.Tensor) -> torch.Tensor:
        (t0, t1), (y0, y1), _ = box
        s, row, _ = coordinates(self.grid, keys)
        size = self.table.to(keys.device)[t0:t1, s.long()][:, None]
        band = torch.arange(y0, y1, device=keys.device)[:, None] // self.step
        start = (band - size // 2).clamp(min=0).minimum(self.axis(1).steps - size)
        step = row // self.step
        return ((step >= start) & (step < start + size))[:, :, None]

    def leaves(self) -> tuple:
        return (self,)

    def combine(self, seen: list) -> bool:
        return seen.pop(0)

    def times(self) -> list[list]:
        return self.sizes

    def rows(self, time) -> torch.Tensor:
        y = torch.arange(self.grid[1])
        return self.axis(time).sees(y[:, None], y[None]) if time else torch.zeros(len(y), len(y), dtype=torch.bool)

    def columns(self) -> torch.Tensor:
        return torch.ones(self.grid[2], self.grid[2], dtype=torch.bool)

    def key_boxes(self, box: Box) -> tuple[tuple[Box, ...], bool]:
        (t0, t1), rows, _ = box
        ranges, full = [], True
        for s in range(self.grid[0]):
            sizes = {self.sizes[t][s] for t in range(t0, t1)}
            axes = [self.axis(size) for size in sizes if size]
            spans = [axis.reach(*rows) for axis in axes]
            span = (min(a for a, _ in spans), max(b for _, b in spans)) if spans else None
            full = full and len(sizes) == 1 and all(axis.same_window(*rows) for axis in axes)
            ranges.append(span)
        ends = [0, *(s for s, (a, b) in enumerate(pairwise(ranges), 1) if a != b), len(ranges)]
        columns = (0, self.grid[2])
        return tuple(((a, b), ranges[a], columns) for a, b in pairwise(ends) if ranges[a]), full

    @property
    def density(self) -> float:
        frames, rows, columns = self.grid
        pairs = {size: self.axis(size).pairs if size else 0 for size in {n for row in self.sizes for n in row}}
        seen = sum(pairs[self.sizes[t][s]] for t, s in product(range(frames), repeat=2))
        return seen / (frames * rows) ** 2
