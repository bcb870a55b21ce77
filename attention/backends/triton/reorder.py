"""Sparse attention of tokens in another order than they stand in: the copies that the kernel reads are made in it.

No reordered copy of q and k is made for INT8. The same pass gives the means that blocks are selected by, and that stand
for the blocks which are not.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .block_lists import KEYS, QUERIES, BlockLists
from .launch import (
    KernelInputs,
    check,
    check_lists,
    empty_output,
    float8_of,
    launch_kernel,
    tiling_of,
    with_near_rows,
)  # fmt: skip
from .quantize import LOG2_E, ROWS, mean_of, quantize_keys, quantize_queries, reorder_rows, scale_values


class PooledBlocks(NamedTuple):
    """What blocks are selected by.

    q: (B, H, R, P) float32, means of blocks of QUERIES queries. P may be more than D.
    k: (B, Hkv, C, P) float32, means of blocks of KEYS of the video's keys. A vector may have been taken from all.
    lengths: (C,) float32, how many keys each has.
    scale: what makes scores of their products.
    """

    q: torch.Tensor
    k: torch.Tensor
    lengths: torch.Tensor
    scale: float


def prepare(
    q, k, v, front, order, scale: float | None, *, quantized: bool, float8: bool = False, rotated: bool = True,
    selects: bool = False, tail: bool = False,
) -> tuple[KernelInputs, PooledBlocks | None]:  # fmt: skip
    """Make what the kernel reads for queries q[order], and for keys `front`, filled up to whole blocks, and k[order].

    What is not named here is as of launch.attention; q, k and v have N tokens each.
    front: (k, v), each (B, Hkv, S, D), S may be 0.
    order: (N,) int, None for as they stand.
    selects: whether blocks are to be selected by their means; else no PooledBlocks are given.
    tail: whether the blocks that are not selected count by their means.
    Raises ValueError for what does not fit.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    check(q, k, v, None, scale)
    check_order(q, k, front, order)
    q, k, v = with_near_rows(q, k, v)
    front_k, front_v = with_near_rows(*front) if front[0].shape[2] else (None, None)
    tiling = tiling_of(q, quantized, bias=False, listed=True, float8=float8)
    ahead, lengths = -(-front[0].shape[2] // KEYS), block_sizes(k.shape[2], KEYS, k.device)
    with torch.cuda.device_of(q):
        if quantized:
            how = {"selects": selects, "means": tiling.means if tail else 0}
            tensors, q_mean, k_mean = in_int8(q, k, front_k, order, scale, rotated, **how)
        else:
            tensors, q_mean, k_mean = in_16_bit(q, k, front_k, order, selects=selects, tail=tail)
        if float8 or tiling.fp16_accumulate:
            how = {"fp16_accumulate": tiling.fp16_accumulate > 0, "pooled": tail}
            dtype = float8_of(v.device) if float8 else torch.float16
            tensors["v"], tensors["v_scale"], v_mean = scale_values(v, KEYS, dtype, order, front_v, **how)
        else:
            tensors["v"], v_mean = in_order(v, KEYS, order, front_v, v.dtype if tail else None)
    if tail:
        mass = F.pad(lengths.log2(), (ahead, 0), value=log2(KEYS))
        tensors |= {"v_mean": v_mean, "mass": mass.expand(q.shape[0], -1).contiguous()}
    inputs = KernelInputs(tiling, scale, (q.shape[2], ahead * KEYS + k.shape[2], q.shape[3]), **tensors)
    if not selects:
        return inputs, None
    q_mean = merge_means(q_mean, q.shape[2])
    return inputs, PooledBlocks(q_mean, k_mean[:, :, ahead:], lengths, 1 / LOG2_E if quantized else scale)


def check_order(q, k, front, order) -> None:
    """Raise ValueError for an order, or tokens in front, of another call."""
    if order is not None and {q.shape[2], k.shape[2]} != {len(order)}:
        raise ValueError(f"an order of {len(order)} tokens, q has {q.shape[2]}, k {k.shape[2]}")
    for t in front:
        if t.shape[2] != front[0].shape[2] or (*t.shape[:2], t.shape[3]) != (*k.shape[:2], k.shape[3]):
            raise ValueError(f"{tuple(t.shape)} in front of k {tuple(k.shape)}")


def in_int8(q, k, front, order, scale: float, rotated: bool, *, selects: bool, means: int):
    """Round q and k to INT8 in order: {field of KernelInputs: tensor}, and means of ROWS queries and of KEYS keys.

    means: how many of those of keys share a scale, as Tiling says; 0: they are not for the kernel.
    """
    shift, pooled = mean_of(k, rotated=rotated), selects or means > 0
    q, q_scale, q_mean = quantize_queries(q, scale, QUERIES, order, pooled=selects, rotated=rotated)
    k, k_scale, k_mean = quantize_keys(k, shift, KEYS, order, front, pooled=pooled, rotated=rotated)
    tensors = {"q": q, "q_scale": q_scale, "k": k, "k_scale": k_scale}
    if means:
        tensors["k_mean"], tensors["pool_scale"], _ = quantize_keys(k_mean, None, means, rotated=False)
    return tensors, q_mean, k_mean


def in_16_bit(q, k, front, order, *, selects: bool, tail: bool):
    """Copy q and k in order, in their own dtype; gives what in_int8 does, the means from the same pass."""
    q, q_mean = in_order(q, ROWS, order, None, torch.float32 if selects else None)
    k, k_mean = in_order(k, KEYS, order, front, torch.float32 if selects or tail else None)
    return {"q": q, "k": k, "k_mean": k_mean.to(k.dtype) if tail else None}, q_mean, k_mean


def in_order(x, block: int, order, front, pooled):
    """Copy as quantize.reorder_rows does; gives x itself where there is no order, no front and nothing to pool."""
    if order is None and front is None and pooled is None:
        return x, None
    return reorder_rows(x, block, order, front, pooled)


def block_sizes(length: int, block: int, device) -> torch.Tensor:
    """Count the tokens of each block of `length` tokens: (C,) float32."""
    return (length - torch.arange(0, length, block, device=device)).clamp(max=block).float()


def merge_means(q_mean: torch.Tensor, length: int) -> torch.Tensor:
    """Merge means of blocks of ROWS tokens, (B, H, n, P), into those of blocks of QUERIES."""
    per, blocks = QUERIES // ROWS, -(-length // ROWS)
    sums = q_mean[:, :, :blocks] * block_sizes(length, ROWS, q_mean.device)[:, None]
    sums = F.pad(sums, (0, 0, 0, -blocks % per)).unflatten(2, (-1, per)).sum(3)
    return sums / block_sizes(length, QUERIES, q_mean.device)[:, None]


def attend(inputs: KernelInputs, like: torch.Tensor, blocks: BlockLists) -> torch.Tensor:
    """Run the kernel on what `prepare` made, by lists, in its order: (B, H, N, D).

    like: q, whose shape and dtype the output gets.
    Raises ValueError for lists or a q of another call.
    """
    if like.shape != (*inputs.q.shape[:2], inputs.sizes[0], inputs.sizes[2]):
        raise ValueError(f"q {tuple(like.shape)} is not what was prepared")
    check_lists(blocks, like.shape, inputs.sizes[1])
    out = empty_output(like)
    with torch.cuda.device_of(like):
        launch_kernel(inputs, out, None, *blocks.tensors)
    return out
