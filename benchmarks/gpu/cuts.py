"""Candidate cuts around those of attention/backends/triton/tiling.py, and how a call is made with one of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from attention.backends.triton import launch
from attention.backends.triton.tiling import PIPELINED_PV, TILINGS, Tiling, padded, tiling_for


def key_of(capability: tuple[int, int], quantized: bool, head_dim: int) -> tuple:
    """Give the row of TILINGS that such a call takes."""
    since = max(row for row, *_ in TILINGS if row <= max(capability, (8, 0)))
    return since, quantized, padded(head_dim)


def shipped(capability: tuple[int, int], quantized: bool, head_dim: int, listed: bool) -> Tiling:
    """Give the cut that ships, as a call takes it."""
    return tiling_for(capability, quantized, head_dim, bias=False, listed=listed, triton=launch.triton_version())


def candidates(capability: tuple[int, int], quantized: bool, head_dim: int, listed: bool) -> list[Tiling]:
    """List the shipped cut first, then some that differ from it in one thing; each costs seconds to compile.

    Tiles of a call by lists are fixed: the lists are of such blocks.
    """
    base = shipped(capability, quantized, head_dim, listed)
    found = [base, *(replace(base, stages=base.stages + more) for more in (-1, 1) if base.stages + more > 1)]
    if not listed:
        found.append(replace(base, n=64 if base.n == 128 else 128))
        # A group of four warps has 64 queries: WGMMA's own shape, and what registers allow elsewhere.
        found.append(replace(base, m=64, warps=4))
    if capability in PIPELINED_PV:
        found.append(replace(base, pipelined_pv=not base.pipelined_pv))
    return [cut for cut in found if cut == base or fits(cut, quantized, padded(head_dim), listed)]


def fits(cut: Tiling, quantized: bool, size: int, listed: bool, kib: int = 227) -> bool:
    """Tell whether the tiles on their way are within the shared memory: as compiled for Hopper, one more than there are
    stages where values come later, two fewer by lists, whose entries take stages of their own."""
    tile = cut.n * size * ((1 if quantized else 2) + 2)
    return tile * (cut.stages + cut.pipelined_pv - 2 * listed) <= kib * 1024


@contextmanager
def cut_as(tiling: Tiling):
    """Calls within are cut so, whatever they are."""
    before, launch.tiling_for = launch.tiling_for, lambda *call, **how: tiling
    try:
        yield
    finally:
        launch.tiling_for = before


def row_text(key: tuple, best: dict[str, Tiling]) -> str:
    """Write a row of TILINGS with the best cuts in their places, "dense" and "lists"."""
    dense, edged, lists = TILINGS[key]
    cuts = (best.get("dense", dense), edged, best.get("lists", lists))
    shown = ", ".join(f"Tiling({cut.m}, {cut.n}, {cut.warps}, {cut.stages})" for cut in cuts)
    return f"{key}: ({shown}),"
