"""How a call is cut into tiles and programs on which GPU: a table, so that nothing is tuned during a render."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_HEAD = 128


@dataclass(frozen=True)
class Cut:
    """m, n: queries and keys of one tile. warps: of one program. stages: how many tiles of keys are on their way."""

    m: int
    n: int
    warps: int
    stages: int


# Mean keys of one tile.
MEANS = 32
# (first compute capability, INT8 scores, padded head size) -> how a dense call is cut, one with a bias, and one with
# lists, whose tiles are lists.QUERIES x lists.KEYS: their entries take stages of their own, so 5 keep two tiles on
# their way where 4 keep one.
# Chosen by ahead-of-time compilation (benchmarks/compiled.json): no spills, shared memory within each GPU's limit.
# Not measured on a GPU.
CUTS = {
    ((8, 0), True, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 0), True, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 0), False, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 0), False, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 2), Cut(128, 64, 8, 5)),
    ((8, 6), True, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 6), True, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 6), False, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((8, 6), False, 128): (Cut(128, 64, 8, 2), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((9, 0), True, 64): (Cut(128, 128, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((9, 0), True, 128): (Cut(128, 128, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((9, 0), False, 64): (Cut(128, 128, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((9, 0), False, 128): (Cut(128, 128, 8, 2), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((10, 0), True, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((10, 0), True, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((10, 0), False, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((10, 0), False, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((12, 0), True, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((12, 0), True, 128): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((12, 0), False, 64): (Cut(128, 64, 8, 3), Cut(128, 64, 8, 3), Cut(128, 64, 8, 5)),
    ((12, 0), False, 128): (Cut(128, 32, 8, 3), Cut(128, 32, 8, 3), Cut(128, 64, 8, 5)),
}


def padded(head_dim: int) -> int:
    """The size that a head is filled up to in registers: 64 or 128. ValueError above LARGEST_HEAD."""
    if not 0 < head_dim <= LARGEST_HEAD:
        raise ValueError(f"head size {head_dim}, takes 1 to {LARGEST_HEAD}")
    return 64 if head_dim <= 64 else 128


def cut(capability: tuple[int, int], quantised: bool, head_dim: int, *, bias: bool, listed: bool) -> Cut:
    """The row of the newest capability that is not above the GPU's own; for a call with a bias, or with lists.

    A head that must be filled up takes registers as a bias does.
    """
    since, size = max(row for row, *_ in CUTS if row <= max(capability, (8, 0))), padded(head_dim)
    dense, edged, by_lists = CUTS[since, quantised, size]
    if listed:
        return by_lists
    return edged if bias or head_dim != size else dense
