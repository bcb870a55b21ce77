"""How a call is cut into tiles and programs on each GPU: a table, so that nothing is tuned during a render."""

from __future__ import annotations

from dataclasses import dataclass, replace

LARGEST_HEAD = 128
# Keys of one tile of means.
MEANS = 32


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
    parts: how many tiles of keys one block has that lists name, and INT8 scales are of.
    means: how many keys a tile of means has.
    waves_per_eu: how many waves of a SIMD the registers are to leave room for, on AMD; 0: left to the compiler.
    """

    m: int
    n: int
    warps: int
    stages: int
    pipelined_pv: bool = False
    fp16_accumulate: int = 0
    parts: int = 1
    means: int = MEANS
    waves_per_eu: int = 0

    @property
    def block(self) -> int:
        """Return the keys of one block."""
        return self.n * self.parts

    @property
    def options(self) -> dict[str, int]:
        """Return what Triton is asked for besides warps and stages; NVIDIA's knows none of these."""
        return {"waves_per_eu": self.waves_per_eu} if self.waves_per_eu else {}


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
# The same for AMD, by architecture; None: no cut without spills is known. One stage, as AMD's own attention in Triton:
# two are "not suitable" on RDNA (https://github.com/ROCm/triton/issues/916), and Triton 3.7 compiles them wrong for
# gfx950 (https://github.com/ROCm/aiter/pull/4163). A wave multiplies 32 queries on CDNA and 16 on RDNA.
ON_CDNA, HALVED_ON_CDNA = Tiling(128, 64, 4, 1, waves_per_eu=2), Tiling(128, 32, 4, 1, waves_per_eu=2)
ON_RDNA, HALVED_ON_RDNA = Tiling(128, 64, 8, 1), Tiling(128, 32, 8, 1)


def in_parts(half: Tiling, dense: Tiling | None = None, lists: Tiling | None = None) -> tuple[Tiling, Tiling, Tiling]:
    """Give a row of `half`, two of which make a block of a list; of `dense`, if any, for dense calls without a bias,
    and of `lists`, if any, for those by lists."""
    return dense or half, half, lists or replace(half, parts=2)


AMD_TILINGS = {
    ("gfx90a", True, 64): in_parts(HALVED_ON_CDNA, ON_CDNA),
    ("gfx90a", True, 128): in_parts(HALVED_ON_CDNA),
    ("gfx90a", False, 64): in_parts(HALVED_ON_CDNA, ON_CDNA),
    ("gfx90a", False, 128): in_parts(HALVED_ON_CDNA),
    # A tile of a whole block of a list has registers in four rows, and fewer vector instructions for each pair: here
    # 0.069 and 0.068 instead of 0.088 and 0.086, below 0.38 instead of 0.45 (RX 7000), 0.37 instead of 0.42 (RX 9000).
    # In the others it spills; see KERNEL.md.
    ("gfx950", True, 64): in_parts(HALVED_ON_CDNA, ON_CDNA, ON_CDNA),
    ("gfx950", False, 64): in_parts(HALVED_ON_CDNA, ON_CDNA, ON_CDNA),
    ("gfx942", False, 128): (HALVED_ON_CDNA, HALVED_ON_CDNA, Tiling(128, 32, 4, 1, parts=2, waves_per_eu=1)),
    ("gfx1100", True, 64): in_parts(HALVED_ON_RDNA, lists=ON_RDNA),
    ("gfx1100", True, 128): in_parts(HALVED_ON_RDNA),
    ("gfx1100", False, 64): in_parts(replace(HALVED_ON_RDNA, means=16)),
    ("gfx1100", False, 128): None,
    ("gfx1200", True, 64): (ON_RDNA,) * 3,
    ("gfx1200", True, 128): in_parts(HALVED_ON_RDNA),
    ("gfx1200", False, 64): (ON_RDNA,) * 3,
    ("gfx1200", False, 128): in_parts(HALVED_ON_RDNA, lists=ON_RDNA),
}
# Architecture -> the one whose rows it takes where it has none: MI200, MI300, MI350; RX 7000, Strix Halo; RX 9000.
AMD = {
    "gfx90a": "gfx90a", "gfx942": "gfx90a", "gfx950": "gfx90a", "gfx1100": "gfx1100", "gfx1101": "gfx1100",
    "gfx1151": "gfx1100", "gfx1200": "gfx1200", "gfx1201": "gfx1200",
}  # fmt: skip
# Float8 e4m3 as torch names it: OCP's, or on MI300 the one without negative zero, whose largest number is 240. RDNA 4
# multiplies OCP's too, but Triton makes float8 of weights in software there: 609 vector instructions in a loop for 115.
AMD_FLOAT8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}
IN_SOFTWARE = ("gfx1200", "gfx1201")
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
    gpu: tuple[int, int] | str, quantized: bool, head_dim: int, *, bias: bool, listed: bool, float8: bool = False,
    triton: tuple[int, ...] = NEWEST_TRITON,
) -> Tiling:  # fmt: skip
    """Look up the Tiling of a call: of the newest capability in the table that is not above the GPU's own.

    gpu: compute capability, or the name of one of AMD.
    bias: whether the call has one. A head that must be filled up takes registers as a bias does.
    listed: whether it works through lists of key blocks.
    triton: its version, as numbers.
    Raises ValueError where there is none.
    """
    size = padded(head_dim)
    if isinstance(gpu, str):
        dense, edged, by_lists = amd_tilings(gpu, quantized, head_dim)
        return by_lists if listed else edged if bias or head_dim != size else dense
    since = max(row for row, *_ in TILINGS if row <= max(gpu, (8, 0)))
    dense, edged, by_lists = TILINGS[since, quantized, size]
    if triton < STAGES_FOR_LISTS:
        by_lists = replace(by_lists, stages=by_lists.stages - 2)
    tiling = by_lists if listed else edged if bias or head_dim != size else dense
    can_accumulate = quantized and not (float8 and triton < STAGES_FOR_LISTS)
    fp16_accumulate = FP16_ACCUMULATE.get(since, 0) if can_accumulate else 0
    return replace(tiling, pipelined_pv=since in PIPELINED_PV, fp16_accumulate=fp16_accumulate)


def has_row(gpu: str, quantized: bool, head_dim: int) -> bool:
    """Tell whether a GPU of AMD's, by its name, has a cut for such heads."""
    return _amd_row(gpu, quantized, head_dim) is not None


def _amd_row(gpu: str, quantized: bool, head_dim: int) -> tuple[Tiling, Tiling, Tiling] | None:
    size = padded(head_dim)
    return AMD_TILINGS.get((gpu, quantized, size), AMD_TILINGS.get((AMD.get(gpu), quantized, size)))


def amd_tilings(gpu: str, quantized: bool, head_dim: int) -> tuple[Tiling, Tiling, Tiling]:
    """Look up a row of AMD_TILINGS. Raises ValueError where there is none."""
    if (row := _amd_row(gpu, quantized, head_dim)) is None:
        raise ValueError(f"no cut for heads of {head_dim} on {gpu}")
    return row


def edge_stages(tiling: Tiling, quantized: bool, *, listed: bool, masks: bool, means: bool) -> int:
    """Give the number of stages for the blocks that are ragged or partly seen; Tiling.stages is of the full ones.

    Without masks, and where blocks were selected, there are two at most, nothing to wait for. But 2 stages spare
    16-bit lists on 12.0 a spill, and with 1 NVIDIA's assembler lets each WGMMA of the long loop wait for the one before
    (its message C7515).
    """
    if masks and not means:
        return tiling.stages
    return 2 if tiling.pipelined_pv or (listed and not quantized and tiling.stages > 1) else 1
