"""How a call is cut into tiles and programs on each GPU: a table, so that nothing is tuned during a render."""

from __future__ import annotations

from dataclasses import dataclass, replace

LARGEST_HEAD = 128


@dataclass(frozen=True)
class Tiling:
    """How one call is cut.

    m: queries of one tile.
    n: keys of one tile.
    warps: of one program.
    stages: how many tiles of keys are on their way.
    pipelined_pv: whether weights times values are added one step late, beside the next tile's softmax.
    fp16_accumulate: where the weighted values of one tile are summed in float16: nowhere (0), in full tiles (1), in
        partial ones too (2). The tiles' own sums are summed in float32.
    """

    m: int
    n: int
    warps: int
    stages: int
    pipelined_pv: bool = False
    fp16_accumulate: int = 0


# Keys of one tile of means.
MEANS = 32
# (first compute capability, INT8 scores, padded head size) -> how a dense call is cut, one with a bias, and one with
# lists, whose tiles are block_lists.QUERIES x KEYS: their entries take stages of their own, so 5 keep two tiles on
# their way where 4 keep one.
# Chosen by ahead-of-time compilation (benchmarks/compiled.json): no spills, shared memory within each GPU's limit.
# Not measured on a GPU.
TILINGS = {
    ((8, 0), True, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 0), True, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 0), False, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 0), False, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 2), Tiling(128, 64, 8, 5)),
    ((8, 6), True, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 6), True, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 6), False, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((8, 6), False, 128): (Tiling(128, 64, 8, 2), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((9, 0), True, 64): (Tiling(128, 128, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((9, 0), True, 128): (Tiling(128, 128, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((9, 0), False, 64): (Tiling(128, 128, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((9, 0), False, 128): (Tiling(128, 128, 8, 2), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((10, 0), True, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((10, 0), True, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((10, 0), False, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((10, 0), False, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((12, 0), True, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((12, 0), True, 128): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((12, 0), False, 64): (Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 3), Tiling(128, 64, 8, 5)),
    ((12, 0), False, 128): (Tiling(128, 32, 8, 3), Tiling(128, 32, 8, 3), Tiling(128, 64, 8, 5)),
}
# Tensor cores that work on while their warps go on: WGMMA (9.0), tcgen05 (10.0). Others would pay with registers.
PIPELINED_PV = ((9, 0), (10, 0))
# GeForce multiplies halves and float8 twice as fast when their sums are float16 (NVIDIA's white papers on Ampere GA102,
# Ada and Blackwell RTX). In partial tiles 12.0 has no registers for it.
FP16_ACCUMULATE = {(8, 6): 2, (12, 0): 1}
# Before this Triton the entries of a list take no stages: 5 would keep 5 tiles, 164 KiB on a GPU that has 99. And
# products of float8 with float16 sums do not compile for 8.9.
STAGES_FOR_LISTS, NEWEST_TRITON = (3, 5), (99, 0)


def padded(head_dim: int) -> int:
    """Give the size that a head is filled up to in registers: 64 or 128. Raises ValueError above LARGEST_HEAD."""
    if not 0 < head_dim <= LARGEST_HEAD:
        raise ValueError(f"head size {head_dim}, takes 1 to {LARGEST_HEAD}")
    return 64 if head_dim <= 64 else 128


def tiling_for(
    capability: tuple[int, int], quantized: bool, head_dim: int, *, bias: bool, listed: bool, float8: bool = False,
    triton: tuple[int, ...] = NEWEST_TRITON,
) -> Tiling:  # fmt: skip
    """Look up the Tiling of a call: of the newest capability in the table that is not above the GPU's own.

    bias: whether the call has one. A head that must be filled up takes registers as a bias does.
    listed: whether it works through lists of key blocks.
    triton: its version, as numbers.
    """
    since, size = max(row for row, *_ in TILINGS if row <= max(capability, (8, 0))), padded(head_dim)
    dense, edged, by_lists = TILINGS[since, quantized, size]
    if triton < STAGES_FOR_LISTS:
        by_lists = replace(by_lists, stages=by_lists.stages - 2)
    tiling = by_lists if listed else edged if bias or head_dim != size else dense
    can_accumulate = quantized and not (float8 and triton < STAGES_FOR_LISTS)
    fp16_accumulate = FP16_ACCUMULATE.get(since, 0) if can_accumulate else 0
    return replace(tiling, pipelined_pv=since in PIPELINED_PV, fp16_accumulate=fp16_accumulate)


def edge_stages(tiling: Tiling, quantized: bool, *, listed: bool, masks: bool, means: bool) -> int:
    """Give the number of stages for the blocks that are ragged or partly seen; Tiling.stages is of the full ones.

    Without masks, and where blocks were selected, there are two at most, nothing to wait for. But 2 stages spare
    16-bit lists on 12.0 a spill, and with 1 NVIDIA's assembler lets each WGMMA of the long loop wait for the one before
    (its message C7515).
    """
    if masks and not means:
        return tiling.stages
    return 2 if tiling.pipelined_pv or (listed and not quantized) else 1
