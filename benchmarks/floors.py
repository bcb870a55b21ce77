"""The least time that our kernel could take, from what it must compute and move: an analytical model, no measurement.

A call over H heads of D (padded to P), N queries, M keys and a part `density` of the tiles needs, with
T = H N M density (query, key) pairs in tiles:

    2 T P          products and sums of Q K^T, in INT8 or 16 bit
    2 T P          products and sums of P V, in 16 bit with float32 or float16 sums (tiling.py), or in float8
    T              exponentials, on the special function units: 16 for each multiprocessor and clock
    T loop w / mn  instructions, 4 for each multiprocessor and clock: the long loop in compiled.json has `loop` of them
                   for w warps and a tile of m x n pairs, maxima, sums, conversions and addresses among them. On AMD
                   those of vectors alone, which share nothing with the others: a CU issues 1 for 64 lanes (CDNA) or 2
                   for 32 (RDNA) in a clock
    bytes          q, k, v and the output once, and copies of q and k in 8 bits and of v, written and read once

The floor is the longest of: both products one after the other on the tensor cores; the exponentials; the instructions;
the bytes. They can overlap, so no sum is taken. Not in it: the wait between the products, which depend on each other;
clocks below boost.
So INT8 scores save at most 25 % where integers are twice as fast as halves (A100, H200). GeForce multiplies halves, and
float8 too, at half the rate where their sums are float32; integers are four times as fast as such halves. With INT8
scores and values summed as halves 62.5 % of a 16-bit kernel's time is gone, of which float8 values take another third.

A call by blocks chosen in another order of tokens has passes around the kernel that these bytes do not have: see
`around`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from attention.backends.triton.tiling import has_row, padded, tiling_for

EXPONENTIALS_PER_CLOCK = 16


@dataclass(frozen=True)
class Gpu:
    """What a GPU can do at most, from its maker's data sheets and white papers.

    architecture: as compiled.json names it.
    int8: of the tensor cores without sparsity, 10^12 operations per second.
    half: the same with 16-bit numbers and float32 sums.
    float8: the same with float8 and the faster sums; 0: it has none, or our kernel none for it.
    half_sums: the same with 16-bit numbers and float16 sums.
    bandwidth: 10^12 bytes per second.
    multiprocessors: how many, on AMD CUs.
    clock: boost, 10^12 per second.
    issued: instructions of a multiprocessor and clock.
    """

    architecture: int | str
    int8: float
    half: float
    float8: float
    half_sums: float
    bandwidth: float
    multiprocessors: int
    clock: float
    issued: int = 4


def of_amd(architecture: str, int8: int, half: int, float8: int, bandwidth: float, cus: int, clock: float) -> Gpu:
    """Make a Gpu of AMD's from the operations of its matrix cores for each CU and clock, which its documents give."""
    issued = 1 if architecture.startswith("gfx9") else 2
    rates = [rate * cus * clock for rate in (int8, half, float8, half)]
    return Gpu(architecture, *rates, bandwidth, cus, clock, issued)


# AMD, without sparsity, as read on 2026-11-29. Operations for each CU and clock, CUs, clock, bandwidth:
# MI300X: 2048 in 16 bit, 4096 in INT8 and FP8, 1307.4 and 2614.9 in all, 5.3 TB/s, 304 CUs: AMD, "MI300 series
#   microarchitecture" (https://rocm.docs.amd.com/en/latest/conceptual/gpu-arch/mi300.html). The clock follows.
# MI355X: 4096 and 8192: AMD, "CDNA 4 architecture", table 1 (https://www.amd.com/content/dam/amd/en/documents/
#   instinct-business-docs/white-papers/amd-cdna-4-architecture-whitepaper.pdf), as OpenXLA's
#   stream_executor/rocm/rocm_core_info_table.cc has them from there; 256 CUs: https://rocm.docs.amd.com/en/latest/
#   reference/gpu-specs.html; with 5 * 10^15 in FP8 (https://www.world-today-news.com/?p=7253162, of AMD's talk at
#   ISSCC 2026) the clock is 2.4 GHz; 8 TB/s: https://aiwiki.ai/wiki/amd_instinct_mi355x.
# RX 7900 XTX, RX 9070 XT: 512 in 16 bit and INT8; 1024 and 2048: AMD, "Using the Matrix Cores of AMD RDNA 4
#   architecture GPUs" (https://gpuopen.com/learn/using_matrix_core_amd_rdna4). CUs, clock and bandwidth:
#   https://guru3d.com/review/xfx-radeon-rx-7900-xtx-magair-review/page-4 and
#   https://multiplayer.it/notizie/amd-radeon-rx-9070-xt-rx-9070-specifiche.html.
# Strix Halo, the Radeon 8060S of a Ryzen AI Max+ 395: RDNA 3.5, 512 as RDNA 3; 40 CUs, 2.9 GHz and 256 GB/s:
#   https://www.svethardware.cz/amd-predstavuje-ryzen-ai-max-strix-halo-s-az-16-jadry-a-gpu-se-40-cu/61477.
GPUS = {
    "A100 SXM 80 GB": Gpu(80, 624, 312, 0, 312, 2.039, 108, 1.41e-3),
    "RTX 3090": Gpu(86, 284, 71, 0, 142, 0.936, 82, 1.695e-3),
    "RTX 4090": Gpu(89, 660.6, 165.2, 660.6, 330.3, 1.008, 128, 2.52e-3),
    "H200 SXM": Gpu(90, 1979, 989.5, 1979, 989.5, 4.8, 132, 1.98e-3),
    "RTX 5090": Gpu(120, 838, 209.5, 838, 419, 1.792, 170, 2.407e-3),
    "MI300X": of_amd("gfx942", 4096, 2048, 4096, 5.3, 304, 2.1e-3),
    "MI355X": of_amd("gfx950", 8192, 4096, 8192, 8.0, 256, 2.4e-3),
    "RX 7900 XTX": of_amd("gfx1100", 512, 512, 0, 0.96, 96, 2.5e-3),
    "RX 9070 XT": of_amd("gfx1201", 2048, 1024, 0, 0.64, 64, 2.97e-3),
    "Strix Halo": of_amd("gfx1151", 512, 512, 0, 0.256, 40, 2.9e-3),
}


@dataclass(frozen=True)
class Floor:
    """Milliseconds that each resource takes at its peak."""

    tensor: float
    exponentials: float
    instructions: float
    memory: float

    @property
    def ms(self) -> float:
        return max(self.tensor, self.exponentials, self.instructions, self.memory)

    @property
    def bound(self) -> str:
        """Which resource takes longest."""
        return max(("tensor", "exponentials", "instructions", "memory"), key=lambda name: getattr(self, name))


def floor(
    gpu: Gpu, heads: int, queries: int, keys: int, head_dim: int, *, quantized: bool, float8: bool = False,
    density: float = 1.0,
) -> Floor:  # fmt: skip
    """Compute the Floor of one call of batch 1, with as many key heads as heads and 16-bit tensors."""
    pairs, size = heads * queries * keys * density, padded(head_dim)
    products = 2 * pairs * size
    for_values = gpu.float8 if float8 else gpu.half_sums if quantized else gpu.half
    tensor = products / (gpu.int8 if quantized else gpu.half) + products / for_values
    moved = 2 * heads * head_dim * (2 * queries + 2 * keys)
    if quantized:
        moved += 2 * heads * size * (queries + keys)
    if float8:
        moved += 2 * heads * size * keys
    elif quantized and gpu.half_sums > gpu.half:
        moved += 4 * heads * head_dim * keys
    clocks = gpu.multiprocessors * gpu.clock
    exponentials = pairs / (EXPONENTIALS_PER_CLOCK * clocks)
    instructions = pairs * per_pair(gpu, size, quantized, float8) / (gpu.issued * clocks)
    return Floor(*(amount / 1e9 for amount in (tensor, exponentials, instructions, moved / gpu.bandwidth)))


def per_pair(gpu: Gpu, size: int, quantized: bool, float8: bool) -> float:
    """Count the instructions of a warp for each (query, key) pair in the long loop of a dense call."""
    kind = f"int8{' and float8' * float8}" if quantized else "float16"
    amd = isinstance(gpu.architecture, str)
    row = compiled()[f"{'' if amd else 'sm_'}{gpu.architecture}, dense, {kind}, head size {size}"]
    name = gpu.architecture if amd else divmod(gpu.architecture, 10)
    tiling = tiling_for(name, quantized, size, bias=False, listed=False)
    return row.get("vector_in_loop", row["loop"]) * row["warps"] / (tiling.m * tiling.n)


def ships(gpu: Gpu, head_dim: int, *, quantized: bool, float8: bool = False) -> bool:
    """Tell whether a GPU runs a kernel: on AMD one that spills is refused, and float8 is not everywhere."""
    amd = isinstance(gpu.architecture, str)
    return bool(gpu.float8 or not float8) and not (amd and not has_row(gpu.architecture, quantized, head_dim))


@cache
def compiled() -> dict:
    """Read compiled.json: {target: what was counted}."""
    return json.loads(Path(__file__).with_name("compiled.json").read_text())["kernels"]


# Bytes read and written for each number of q, of the passes around the kernel with INT8 scores and 16-bit values:
# tokens in another order, blocks chosen in the call, a tail. Means of blocks are 1 / 64 of what they are of, in float32
# for q and k. In order: attention/backends/triton/reorder.py.
IN_ORDER = {
    "mean of k, read": 2,
    "q and k to INT8, with means": 2 * (2 + 1 + 4 / 64),
    "v moved, with means": 2 + 2 + 2 / 64,
    "output moved back": 2 + 2,
}
ONE_AFTER_THE_OTHER = {
    "q, k and v moved": 3 * (2 + 2),
    "means of q and k, read for the choice": 2 * 2,
    "means of k and v, read for the tail": 2 * 2,
    "mean of k, read": 2,
    "q and k to INT8": 2 * (2 + 1),
    "output moved back": 2 + 2,
}


def around(gpu: Gpu, heads: int, tokens: int, head_dim: int, passes: dict[str, float]) -> float:
    """Compute the least milliseconds of the passes around a sparse call of batch 1: IN_ORDER or ONE_AFTER_THE_OTHER."""
    return heads * tokens * head_dim * sum(passes.values()) / gpu.bandwidth / 1e9


def tops(heads: int, queries: int, keys: int, head_dim: int, ms: float, density: float = 1.0) -> float:
    """Compute 10^12 operations per second of a call that takes `ms`: 4 N M H D density, as the papers count."""
    return 4 * heads * queries * keys * head_dim * density / ms / 1e9
