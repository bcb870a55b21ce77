"""What the kernel reads instead of q, k and v: rotated INT8 copies, values in 8 bits, and the means of blocks."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt

import torch
import torch.nn.functional as F

from .cuts import padded
from .device import compiled

LOG2_E = 1.4426950408889634
WARPS = 4
ROWS = 64


@lru_cache(maxsize=16)
def hadamard(size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Sylvester's matrix of 1 and -1, (size, size), size a power of two; over sqrt(size) it is a rotation."""
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
    return matrix.to(device, dtype)


def queries(q: torch.Tensor, scale: float, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """q * scale * log2(e), rotated: int8 (B, H, L, padded D) and one float32 scale for each row (B, H, L).

    L is q's length filled up to a multiple of `block`.
    """
    return _int8(q, None, scale * LOG2_E, -(-q.shape[2] // block) * block, ROWS, each_row=True)


def keys(k: torch.Tensor, mean: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """k less its mean, rotated: int8 (B, Hkv, L, padded D), L filled up to whole blocks, each
    of `block` keys with one float32 scale.

    What all keys share adds the same to all scores of a query, which the softmax ignores and INT8 does not.
    """
    return _int8(k, mean, 1.0, -(-k.shape[2] // block) * block, block, each_row=False)


def mean_of(k: torch.Tensor) -> torch.Tensor:
    """The mean of all keys as `keys` takes it: rotated, (B, Hkv, padded D) float32."""
    size = padded(k.shape[-1])
    mean = F.pad(k.mean(dim=2, dtype=torch.float32), (0, size - k.shape[-1]))
    return (mean @ hadamard(size, torch.float32, k.device) / sqrt(size)).contiguous()


def _int8(x, mean, factor: float, length: int, rows: int, each_row: bool):
    batch, heads, _, dim = x.shape
    size, blocks = padded(dim), length // rows
    out = torch.empty(batch, heads, length, size, dtype=torch.int8, device=x.device)
    scale = torch.empty(batch, heads, length if each_row else blocks, device=x.device)
    compiled()["quantise"][(batch * heads * blocks,)](
        x, mean, hadamard(size, x.dtype, x.device), out, scale, factor / sqrt(size), *x.stride()[:3], heads,
        x.shape[2], blocks, dim, size, rows, each_row, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return out, scale


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


def values(v: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """v over a scale for each channel of a head, float8 e4m3 (B, Hkv, padded D, L), L keys filled up to whole blocks,
    and the scales (B, Hkv, padded D) float32."""
    batch, heads, length, dim = v.shape
    size, blocks = padded(dim), -(-length // block)
    largest = torch.maximum(v.amax(dim=2), -v.amin(dim=2)).float() / torch.finfo(torch.float8_e4m3fn).max
    scale = F.pad(largest.clamp(min=1e-30), (0, size - dim), value=1.0)
    out = torch.empty(batch, heads, size, blocks * block, dtype=torch.float8_e4m3fn, device=v.device)
    compiled()["turn"][(batch * heads * blocks,)](
        v, scale, out, *v.stride()[:3], blocks * block, heads, length, blocks, dim, size, block,
        num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return out, scale
