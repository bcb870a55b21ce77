"""Makes what the kernel reads instead of q, k and v: rotated INT8 copies, scaled values, and the means of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import sqrt

import torch
import torch.nn.functional as F

from ...core.allocation_record import record_paused
from ...core.gpu import amd_of
from .block_lists import KEYS
from .device import compiled
from .tiling import padded

LOG2_E = 1.4426950408889634
WARPS = 4
# RDNA 3 has no registers for the rotation otherwise: its matrix instructions want both operands twice.
WARPS_ON_RDNA_3, RDNA_3 = 8, "gfx11"
ROWS = 64


@lru_cache(maxsize=16)
def hadamard(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Make Sylvester's matrix of 1 and -1, (size, size), size a power of two; over sqrt(size) it is a rotation."""
    with record_paused():
        matrix = torch.ones(1, 1)
        while len(matrix) < size:
            matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
        return matrix.to(device, dtype)


def quantize_queries(q, scale: float, block: int, order=None, *, pooled: bool = False, rotated: bool = True):
    """Rotate q * scale * log2(e) and round it to int8: (B, H, L, padded D); with a scale for each row, and means.

    L is q's length filled up to a multiple of `block`. The scales are (B, H, L) float32.
    order: (Lq,) int, the row of q that each row is of; None: as they stand.
    pooled: whether means of ROWS rows each are made too, (B, H, L / ROWS, padded D) float32; else None is given.
    rotated: whether q is rotated first.
    """
    blocks = -(-q.shape[2] // block) * block // ROWS
    made = _allocate_int8(q, blocks, ROWS, pooled=pooled, each_row=True)
    _quantize_into(made, q, order, None, scale * LOG2_E, 0, blocks, rotated)
    return made.copy, made.scale, made.means


def quantize_keys(k, mean, block: int, order=None, front=None, *, pooled: bool = False, rotated: bool = True):
    """Rotate k less its mean and round it to int8: (B, Hkv, L, padded D); with a scale for each block, and means.

    L is k's length, and that of `front`, each filled up to whole blocks of `block` keys. The scales are (B, Hkv,
    L / block) float32.
    mean: (B, Hkv, padded D), as mean_of gives it, or None. What all keys share adds the same to all scores of a query,
        which the softmax ignores and INT8 does not.
    order: as of quantize_queries.
    front: (B, Hkv, S, D), keys that come first; None: none.
    pooled: whether means of the blocks are made too, (B, Hkv, L / block, padded D) float32; else None is given.
    rotated: whether k is rotated first; False where it is already, padded too.
    """
    ahead = 0 if front is None else -(-front.shape[2] // block)
    made = _allocate_int8(k, ahead - (-k.shape[2] // block), block, pooled=pooled, each_row=False)
    if ahead:
        _quantize_into(made, front, None, mean, 1.0, 0, ahead, rotated)
    _quantize_into(made, k, order, mean, 1.0, ahead, made.blocks - ahead, rotated)
    return made.copy, made.scale, made.means


def mean_of(k: torch.Tensor, *, rotated: bool = True) -> torch.Tensor:
    """Take the mean of all keys as quantize_keys wants it: rotated, (B, Hkv, padded D) float32."""
    size = padded(k.shape[-1])
    mean = F.pad(k.mean(dim=2, dtype=torch.float32), (0, size - k.shape[-1]))
    return (mean @ hadamard(size, torch.float32, k.device) / sqrt(size) if rotated else mean).contiguous()


@dataclass(frozen=True)
class _Int8Copy:
    """A copy in int8 that is filled block by block, (B, H, blocks * rows, padded D), its scales and means."""

    copy: torch.Tensor
    scale: torch.Tensor
    means: torch.Tensor | None
    blocks: int
    rows: int
    each_row: bool


def _allocate_int8(x, blocks: int, rows: int, *, pooled: bool, each_row: bool) -> _Int8Copy:
    batch, heads, _, dim = x.shape
    size, made = padded(dim), partial(torch.empty, device=x.device)
    means = made(batch, heads, blocks, size) if pooled else None
    scale = made(batch, heads, blocks * (rows if each_row else 1))
    return _Int8Copy(made(batch, heads, blocks * rows, size, dtype=torch.int8), scale, means, blocks, rows, each_row)


def _quantize_into(made: _Int8Copy, x, order, mean, factor: float, ahead: int, blocks: int, rotated: bool) -> None:
    """Write x, in `order`, to `blocks` blocks behind the first `ahead`."""
    batch, heads, length, dim = x.shape
    size = padded(dim)
    rotation, factor = (hadamard(size, x.dtype, x.device), factor / sqrt(size)) if rotated else (None, factor)
    compiled()["quantize"][(batch * heads * blocks,)](
        x, order, mean, rotation, made.copy, made.scale, made.means, factor, *x.stride()[:3], heads, length, blocks,
        ahead, made.blocks, dim, size, made.rows, made.each_row, num_warps=warps_to_quantize(amd_of(x.device)),
        enable_fp_fusion=True,
    )  # fmt: skip


def warps_to_quantize(amd: str | None) -> int:
    """Give how many warps round one block to INT8.

    amd: name of an AMD GPU's architecture, None for any other.
    """
    return WARPS_ON_RDNA_3 if (amd or "").startswith(RDNA_3) else WARPS


def reorder_rows(x, block: int, order=None, front=None, pooled: torch.dtype | None = None):
    """Copy x in `order`, behind `front`: (B, H, L, D), zeros where they are filled up to whole blocks; with means.

    order: as of quantize_keys.
    front: as of quantize_keys.
    pooled: dtype of the means of the blocks, (B, H, L / block, D); None: none are made.
    """
    return _reorder(x, block, order, front, None, x.dtype, pooled)


def _reorder(x, block: int, order, front, scale, dtype: torch.dtype, pooled: torch.dtype | None):
    """Copy as reorder_rows does, divided by `scale` if there is one, in `dtype`."""
    batch, heads, _, dim = x.shape
    parts, total = _parts(x, block, order, front)
    out = x.new_empty(batch, heads, total * block, dim, dtype=dtype)
    means = None if pooled is None else x.new_empty(batch, heads, total, dim, dtype=pooled)
    for part, part_order, first, blocks in parts:
        compiled()["reorder_rows"][(batch * heads * blocks,)](
            part, part_order, scale, out, means, *part.stride()[:3], heads, part.shape[2], blocks, first, total, dim,
            padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return out, means


def _parts(x, block: int, order, front):
    """List (tensor, order, blocks in front of it, its blocks) of `front`, if any, and of x; and count all blocks."""
    ahead = 0 if front is None else -(-front.shape[2] // block)
    blocks = -(-x.shape[2] // block)
    return [*([(front, None, 0, ahead)] if ahead else []), (x, order, ahead, blocks)], ahead + blocks


def block_means(k, v, bias: torch.Tensor | None, block: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Take the mean key and value of each `block` of keys, (B, Hkv, C, D), and log2 of the keys it stands for, (B, C).

    bias: (1|B, 1, 1, Lk) in log2 units: a key counts exp2(bias) times; None: once.
    """
    batch, heads, length, dim = k.shape
    blocks = -(-length // block)
    k_mean, v_mean = (t.new_empty(batch, heads, blocks, dim) for t in (k, v))
    mass = torch.empty(batch, blocks, device=k.device)
    bias_step = length if bias is not None and len(bias) > 1 else 0
    compiled()["pool_kv"][(batch * heads * blocks,)](
        k, v, bias, k_mean, v_mean, mass, *k.stride()[:3], *v.stride()[:3], bias_step, heads, length, blocks,
        dim, padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return k_mean, v_mean, mass


def scale_values(
    v, block: int, dtype: torch.dtype, order=None, front=None, *, fp16_accumulate: bool, pooled: bool = False
):
    """Divide each channel of v's heads by a scale; give that, the scales (B, Hkv, padded D) float32, and means.

    dtype: float16 gives (B, Hkv, L, D), float8 (B, Hkv, padded D, L), L keys filled up to whole blocks.
    order: as of quantize_keys.
    front: as of quantize_keys.
    fp16_accumulate: whether the kernel sums a block of them in float16, which must hold it; see Tiling.
    pooled: whether means of the blocks are made too, (B, Hkv, L / block, D) in v's dtype, divided as well; else None.
    """
    parts, total = _parts(v, block, order, front)
    scale = _channel_scale([part for part, *_ in parts], largest_value(dtype, fp16_accumulate))
    means = v.dtype if pooled else None
    if dtype == torch.float16:
        out, means = _reorder(v, block, order, front, scale, dtype, means)
        return out, scale, means
    batch, heads, _, dim = v.shape
    out = torch.empty(batch, heads, padded(dim), total * block, dtype=dtype, device=v.device)
    means = v.new_empty(batch, heads, total, dim) if pooled else None
    for part, part_order, first, blocks in parts:
        compiled()["transpose_v"][(batch * heads * blocks,)](
            part, part_order, scale, out, means, *part.stride()[:3], total * block, heads, part.shape[2], blocks, first,
            dim, padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return out, scale, means


def largest_value(dtype: torch.dtype, fp16_accumulate: bool) -> float:
    """Give what the largest value of a channel becomes.

    KEYS of them times the largest weight, 1 or in float8 2**8, stay within float16 where they are summed so.
    """
    if not fp16_accumulate:
        return torch.finfo(dtype).max
    heaviest = 1.0 if dtype == torch.float16 else 2.0**8
    # Less by what rounding to float8 may add.
    return torch.finfo(torch.float16).max / (KEYS * heaviest) * (1 - 2**-4)


def _channel_scale(parts, becomes: float) -> torch.Tensor:
    """Find what to divide each channel by so that its largest value becomes `becomes`: (B, H, padded D) float32."""
    ends = [part.aminmax(dim=2) for part in parts]
    largest = torch.stack([end for low, high in ends for end in (high, -low)]).amax(dim=0).float()
    dim = largest.shape[-1]
    return F.pad((largest / becomes).clamp(min=1e-30), (0, padded(dim) - dim), value=1.0)
