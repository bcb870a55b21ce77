"""The video's token grid: where a token is, the orders its tokens can stand in, and how it is cut into boxes.

Letters: T frames, Y rows, X columns, in tokens; N = T * Y * X. A token's raster index is (t * Y + y) * X + x.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch

from .tokens import Grid

# ((t0, t1), (y0, y1), (x0, x1)): half-open ranges of frames, rows and columns.
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

RASTER, TILE, MORTON, HILBERT = ORDERS = ("raster", "tile", "morton", "hilbert")
# 64 tokens that are near to each other in space and time: the block that sparse kernels choose by.
CUBE = (4, 4, 4)


def coordinates(grid: Grid, index):
    """Return (t, y, x) of a raster index.

    grid: (T, Y, X).
    index: an int or an integer tensor.
    """
    _, rows, columns = grid
    return index // (rows * columns), index // columns % rows, index % columns


def index_of(grid: Grid, t, y, x):
    """Return the raster index of (t, y, x).

    grid: (T, Y, X).
    t: frame, an int or an integer tensor that broadcasts.
    y: row, likewise.
    x: column, likewise.
    """
    _, rows, columns = grid
    return (t * rows + y) * columns + x


def share(percent: float, length: int) -> int:
    """Return how many tokens `percent` of `length` are: rounded, at least one and at most all."""
    return min(length, max(1, round(length * percent / 100)))


def steps_of(size: float, length: int, step: int) -> int:
    """Return how many steps a window is, to the nearest: one at least, and all for the whole length.

    size: of the window, in tokens.
    length: of the axis, in tokens.
    step: tokens of one step.
    """
    return -(-length // step) if size >= length else max(1, round(size / step))


def cut(length: int, size: int) -> tuple[tuple[int, int], ...]:
    """Cut 0..length into half-open ranges of `size`; the last one holds what is left."""
    return tuple((start, min(start + size, length)) for start in range(0, length, size))


def boxes(grid: Grid, tile: Grid) -> tuple[Box, ...]:
    """Cut a grid into boxes, ragged at the far ends, in raster order of the boxes.

    grid: (T, Y, X).
    tile: tokens of a box along each axis.
    """
    frames, rows, columns = (cut(length, size) for length, size in zip(grid, tile))
    return tuple((t, y, x) for t in frames for y in rows for x in columns)


def size_of(box: Box) -> int:
    """Return how many tokens are in a box."""
    return prod(stop - start for start, stop in box)


def tokens_of(grid: Grid, box: Box) -> torch.Tensor:
    """Return the raster indices of a box's tokens, ascending: (size_of(box),)."""
    t, y, x = (torch.arange(start, stop) for start, stop in box)
    return index_of(grid, t[:, None, None], y[None, :, None], x[None, None, :]).flatten()


@lru_cache(maxsize=32)
def order(grid: Grid, name: str, tile: Grid = CUBE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a permutation of the tokens and its inverse, both (N,), shared: not to be written to.

    permutation[i] is the raster index of the i-th token: x[:, permutation] goes from raster to the order, and
    x[:, inverse] goes back.

    grid: (T, Y, X).
    name: one of ORDERS, else ValueError. "tile": box after box, each in raster order, ragged at the far ends. "morton",
        "hilbert": along the curve through the smallest power-of-two cube that holds the grid.
    tile: tokens of a box along each axis, for "tile".
    """
    index = torch.arange(prod(grid))
    if name == RASTER:
        return index, index
    if name == TILE:
        _, down, across = (-(-length // size) for length, size in zip(grid, tile))
        t, y, x = (at // size for at, size in zip(coordinates(grid, index), tile))
        permutation = ((t * down + y) * across + x).argsort(stable=True)
    elif name in (MORTON, HILBERT):
        axes, bits = coordinates(grid, index), max(1, (max(grid) - 1).bit_length())
        permutation = interleave(axes if name == MORTON else hilbert(axes, bits), bits).argsort(stable=True)
    else:
        raise ValueError(f"order: {name!r} is not known. Known: {', '.join(ORDERS)}.")
    inverse = torch.empty_like(permutation)
    inverse[permutation] = index
    return permutation, inverse


@lru_cache(maxsize=32)
def order_on(device: torch.device, grid: Grid, name: str, tile: Grid = CUBE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `order` does on a device, once for all plans that move tokens by it."""
    return tuple(each.to(device) for each in order(grid, name, tile))


def interleave(axes, bits: int) -> torch.Tensor:
    """Return the Morton code of integer tensors: their bits in turn, the first axis the most significant.

    axes: tensors of one shape.
    bits: of each number.
    """
    code = torch.zeros_like(axes[0])
    for bit in reversed(range(bits)):
        for axis in axes:
            code = code << 1 | axis >> bit & 1
    return code


def hilbert(axes, bits: int) -> list[torch.Tensor]:
    """Return coordinates whose interleaved bits are the index along the Hilbert curve.

    axes: integer tensors of one shape.
    bits: of each number.

    J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707, 2004,
    https://doi.org/10.1063/1.1751381: AxestoTranspose.
    """
    axes = [axis.clone() for axis in axes]
    for bit in reversed(range(1, bits)):
        low = (1 << bit) - 1
        for i in range(len(axes)):
            high = (axes[i] >> bit & 1).bool()
            swap = torch.where(high, 0, (axes[0] ^ axes[i]) & low)
            axes[i] = axes[i] ^ swap
            axes[0] = torch.where(high, axes[0] ^ low, axes[0] if i == 0 else axes[0] ^ swap)
    for i in range(1, len(axes)):
        axes[i] = axes[i] ^ axes[i - 1]
    flip = torch.zeros_like(axes[0])
    for bit in reversed(range(1, bits)):
        flip = torch.where((axes[-1] >> bit & 1).bool(), flip ^ (1 << bit) - 1, flip)
    return [axis ^ flip for axis in axes]
