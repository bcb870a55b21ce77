"""What the kernel reads instead of q, k and v: rotated INT8 copies, values in 8 bits, and the means of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from math import sqrt

import torch
import torch.nn.functional as F

from ...core.allocation_record import record_paused
from .block_lists import KEYS
from .device import compiled
from .tiling import padded

LOG2_E = 1.4426950408889634
WARPS = 4
ROWS = 64


@lru_cache(maxsize=16)
def hadamard(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Sylvester's matrix of 1 and -1, (size, size), size a power of two; over sqrt(size) it is a rotation."""
    with record_paused():
        matrix = torch.ones(1, 1)
        while len(matrix) < size:
            matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
        return matrix.to(device, dtype)


def queries(q, scale: float, block: int, order=None, *, pooled: bool = False, rotated: bool = True):
    """q * scale * log2(e), rotated: int8 (B, H, L, padded D), one float32 scale for each row (B, H, L), and where
    `pooled` the means of ROWS rows each, (B, H, L / ROWS, padded D) float32, else None.

    L is q's length filled up to a multiple of `block`. order: (Lq,), the row of q that each row is of.
    """
    blocks = -(-q.shape[2] // block) * block // ROWS
    made = _int8(q, blocks, ROWS, pooled=pooled, each_row=True)
    _fill(made, q, order, None, scale * LOG2_E, 0, blocks, rotated)
    return made.copy, made.scale, made.means


def keys(k, mean, block: int, order=None, front=None, *, pooled: bool = False, rotated: bool = True):
    """k less its mean, rotated: int8 (B, Hkv, L, padded D), L filled up to whole blocks, each of `block` keys with one
    float32 scale, and where `pooled` the means of the blocks, (B, Hkv, L / block, padded D) float32, else None.

    order: as of `queries`. front: (B, Hkv, S, D), keys that come first, filled up to whole blocks.
    mean: (B, Hkv, padded D), as mean_of gives it, or None. What all keys share adds the same to all scores of a query,
    which the softmax ignores and INT8 does not. rotated: false where they are already, padded too.
    """
    ahead = 0 if front is None else -(-front.shape[2] // block)
    made = _int8(k, ahead - (-k.shape[2] // block), block, pooled=pooled, each_row=False)
    if ahead:
        _fill(made, front, None, mean, 1.0, 0, ahead, rotated)
    _fill(made, k, order, mean, 1.0, ahead, made.blocks - ahead, rotated)
    return made.copy, made.scale, made.means


def mean_of(k: torch.Tensor, *, rotated: bool = True) -> torch.Tensor:
    """The mean of all keys as `keys` takes it: rotated, (B, Hkv, padded D) float32."""
    size = padded(k.shape[-1])
    mean = F.pad(k.mean(dim=2, dtype=torch.float32), (0, size - k.shape[-1]))
    return (mean @ hadamard(size, torch.float32, k.device) / sqrt(size) if rotated else mean).contiguous()


@dataclass(frozen=True)
class _Int8:
    """A copy in int8 that is filled block by block, (B, H, blocks * rows, padded D), its scales and means."""

    copy: torch.Tensor
    scale: torch.Tensor
    means: torch.Tensor | None
    blocks: int
    rows: int
    each_row: bool


def _int8(x, blocks: int, rows: int, *, pooled: bool, each_row: bool) -> _Int8:
    batch, heads, _, dim = x.shape
    size, made = padded(dim), partial(torch.empty, device=x.device)
    means = made(batch, heads, blocks, size) if pooled else None
    scale = made(batch, heads, blocks * (rows if each_row else 1))
    return _Int8(made(batch, heads, blocks * rows, size, dtype=torch.int8), scale, means, blocks, rows, each_row)


def _fill(made: _Int8, x, order, mean, factor: float, ahead: int, blocks: int, rotated: bool) -> None:
    """Writes x, in `order`, to `blocks` blocks behind the first `ahead`."""
    batch, heads, length, dim = x.shape
    size = padded(dim)
    turn, factor = (hadamard(size, x.dtype, x.device), factor / sqrt(size)) if rotated else (None, factor)
    compiled()["quantise"][(batch * heads * blocks,)](
        x, order, mean, turn, made.copy, made.scale, made.means, factor, *x.stride()[:3], heads, length, blocks,
        ahead, made.blocks, dim, size, made.rows, made.each_row, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip


def moved(x, block: int, order=None, front=None, pooled: torch.dtype | None = None):
    """x in `order`, behind `front`, (B, H, L, D) with zeros where they are filled up to whole blocks, and the means of
    the blocks, (B, H, L / block, D), in the dtype `pooled`, None for none. order, front: as of `keys`."""
    return _move(x, block, order, front, None, x.dtype, pooled)


def _move(x, block: int, order, front, scale, dtype: torch.dtype, pooled: torch.dtype | None):
    """As `moved`, over `scale` where there is one, in `dtype`."""
    batch, heads, _, dim = x.shape
    parts, total = _parts(x, block, order, front)
    out = x.new_empty(batch, heads, total * block, dim, dtype=dtype)
    means = None if pooled is None else x.new_empty(batch, heads, total, dim, dtype=pooled)
    for part, which, first, blocks in parts:
        compiled()["move"][(batch * heads * blocks,)](
            part, which, scale, out, means, *part.stride()[:3], heads, part.shape[2], blocks, first, total, dim,
            padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return out, means


def _parts(x, block: int, order, front):
    """[(tensor, order, blocks in front of it, its blocks)] of `front`, if any, and x, and how many blocks they are."""
    ahead = 0 if front is None else -(-front.shape[2] // block)
    blocks = -(-x.shape[2] // block)
    return [*([(front, None, 0, ahead)] if ahead else []), (x, order, ahead, blocks)], ahead + blocks


def means(k, v, bias: torch.Tensor | None, block: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean key and value of each `block` of keys, (B, Hkv, C, D), and log2 of the keys it stands for, (B, C).

    bias: (1|B, 1, 1, Lk) in log2 units: a key counts exp2(bias) times.
    """
    batch, heads, length, dim = k.shape
    blocks = -(-length // block)
    k_mean, v_mean = (t.new_empty(batch, heads, blocks, dim) for t in (k, v))
    mass = torch.empty(batch, blocks, device=k.device)
    bias_step = length if bias is not None and len(bias) > 1 else 0
    compiled()["pool"][(batch * heads * blocks,)](
        k, v, bias, k_mean, v_mean, mass, *k.stride()[:3], *v.stride()[:3], bias_step, heads, length, blocks,
        dim, padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return k_mean, v_mean, mass


def values(v, block: int, dtype: torch.dtype, order=None, front=None, *, halves: bool, pooled: bool = False):
    """v over a scale for each channel of a head, the scales (B, Hkv, padded D) float32, and where `pooled` the means of
    the blocks, (B, Hkv, L / block, D) in v's dtype, over the scales too, else None. order, front: as of `keys`.

    dtype: float16 gives (B, Hkv, L, D), float8_e4m3fn (B, Hkv, padded D, L), L keys filled up to whole blocks. halves:
    whether the kernel sums a block of them in float16, which must hold it: Cut.halves.
    """
    parts, total = _parts(v, block, order, front)
    scale = _largest([part for part, *_ in parts], largest_value(dtype, halves))
    means = v.dtype if pooled else None
    if dtype == torch.float16:
        out, means = _move(v, block, order, front, scale, dtype, means)
        return out, scale, means
    batch, heads, _, dim = v.shape
    out = torch.empty(batch, heads, padded(dim), total * block, dtype=dtype, device=v.device)
    means = v.new_empty(batch, heads, total, dim) if pooled else None
    for part, which, first, blocks in parts:
        compiled()["turn"][(batch * heads * blocks,)](
            part, which, scale, out, means, *part.stride()[:3], total * block, heads, part.shape[2], blocks, first,
            dim, padded(dim), block, num_warps=WARPS, enable_fp_fusion=True,
        )  # fmt: skip
    return out, scale, means


def largest_value(dtype: torch.dtype, halves: bool) -> float:
    """What the largest value of a channel becomes: KEYS of them times the largest weight, 1 or in float8 2**8, stay
    within float16 where they are summed so."""
    if not halves:
        return torch.finfo(dtype).max
    heaviest = 1.0 if dtype == torch.float16 else 2.0**8
    # Less by what rounding to float8 may add.
    return torch.finfo(torch.float16).max / (KEYS * heaviest) * (1 - 2**-4)


def _largest(parts, becomes: float) -> torch.Tensor:
    """What to divide each channel by so that its largest value becomes `becomes`: (B, H, padded D) float32."""
    ends = [part.aminmax(dim=2) for part in parts]
    largest = torch.stack([end for low, high in ends for end in (high, -low)]).amax(dim=0).float()
    dim = largest.shape[-1]
    return F.pad((largest / becomes).clamp(min=1e-30), (0, padded(dim) - dim), value=1.0)
