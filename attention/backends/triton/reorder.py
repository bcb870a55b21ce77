"""Sparse attention of tokens in another order than they stand in: the copies that the kernel reads are made in it.

No reordered copy of q and k is made for INT8, and the means that a choice of blocks and the blocks left out need come
out of the same pass.
"""

from __future__ import annotations

from math import log2
from typing import NamedTuple

import torch
import torch.nn.functional as F

from .block_lists import KEYS, QUERIES, Lists
from .launch import Ready, check, check_lists, cut_for, empty_output, near_rows, start
from .quantize import LOG2_E, ROWS, keys, mean_of, moved, queries, values
from .tiling import MEANS


class Pooled(NamedTuple):
    """Means of blocks of q, (B, H, R, P), and of the video's keys, (B, Hkv, C, P), float32, and how many keys each has.

    scale: what makes scores of their products. A vector may have been taken from all keys; P may be more than D.
    """

    q: torch.Tensor
    k: torch.Tensor
    lengths: torch.Tensor
    scale: float


def prepared(
    q, k, v, front, order, scale: float | None, *, quantised: bool, float8: bool = False, rotated: bool = True,
    chooses: bool = False, tail: bool = False,
) -> tuple[Ready, Pooled | None]:  # fmt: skip
    """What the kernel reads for queries q[order] and keys `front`, filled up to whole blocks, and k[order].

    q: (B, H, N, D); k, v: (B, Hkv, N, D); front: (k, v), each (B, Hkv, S, D), S may be 0. order: (N,) int, None for as
    they stand. quantised, float8, rotated: as of launch.attention. chooses: whether blocks are to be chosen by their
    means. tail: whether those that are left out count by theirs. ValueError for what does not fit.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    check(q, k, v, None, scale)
    check_order(q, k, front, order)
    q, k, v = near_rows(q, k, v)
    front_k, front_v = near_rows(*front) if front[0].shape[2] else (None, None)
    one = cut_for(q, quantised, bias=False, listed=True, float8=float8)
    pooled = {"chooses": chooses, "tail": tail}
    ahead, lengths = -(-front[0].shape[2] // KEYS), sizes_of(k.shape[2], KEYS, k.device)
    with torch.cuda.device_of(q):
        if quantised:
            read, q_mean, k_mean = in_int8(q, k, front_k, order, scale, rotated, **pooled)
        else:
            read, q_mean, k_mean = in_16_bit(q, k, front_k, order, **pooled)
        if float8 or one.halves:
            dtype, how = torch.float8_e4m3fn if float8 else torch.float16, {"halves": one.halves > 0, "pooled": tail}
            read["v"], read["v_scale"], v_mean = values(v, KEYS, dtype, order, front_v, **how)
        else:
            read["v"], v_mean = in_order(v, KEYS, order, front_v, v.dtype if tail else None)
    if tail:
        mass = F.pad(lengths.log2(), (ahead, 0), value=log2(KEYS))
        read |= {"v_mean": v_mean, "mass": mass.expand(q.shape[0], -1).contiguous()}
    ready = Ready(one, scale, (q.shape[2], ahead * KEYS + k.shape[2], q.shape[3]), **read)
    if not chooses:
        return ready, None
    return ready, Pooled(joined(q_mean, q.shape[2]), k_mean[:, :, ahead:], lengths, 1 / LOG2_E if quantised else scale)


def check_order(q, k, front, order) -> None:
    """ValueError for an order or tokens in front of another call."""
    if order is not None and {q.shape[2], k.shape[2]} != {len(order)}:
        raise ValueError(f"an order of {len(order)} tokens, q has {q.shape[2]}, k {k.shape[2]}")
    for t in front:
        if t.shape[2] != front[0].shape[2] or (*t.shape[:2], t.shape[3]) != (*k.shape[:2], k.shape[3]):
            raise ValueError(f"{tuple(t.shape)} in front of k {tuple(k.shape)}")


def in_int8(q, k, front, order, scale: float, rotated: bool, *, chooses: bool, tail: bool):
    """{field of Ready: q and k as the kernel reads them}, and the means of blocks of ROWS queries and of KEYS keys."""
    shift, pooled = mean_of(k, rotated=rotated), chooses or tail
    q, q_scale, q_mean = queries(q, scale, QUERIES, order, pooled=chooses, rotated=rotated)
    k, k_scale, k_mean = keys(k, shift, KEYS, order, front, pooled=pooled, rotated=rotated)
    read = {"q": q, "q_scale": q_scale, "k": k, "k_scale": k_scale}
    if tail:
        read["k_mean"], read["pool_scale"], _ = keys(k_mean, None, MEANS, rotated=False)
    return read, q_mean, k_mean


def in_16_bit(q, k, front, order, *, chooses: bool, tail: bool):
    """As in_int8: reordered copies, with means from the same pass."""
    q, q_mean = in_order(q, ROWS, order, None, torch.float32 if chooses else None)
    k, k_mean = in_order(k, KEYS, order, front, torch.float32 if chooses or tail else None)
    return {"q": q, "k": k, "k_mean": k_mean.to(k.dtype) if tail else None}, q_mean, k_mean


def in_order(x, block: int, order, front, pooled):
    """As prepare.moved; x itself where nothing is to be moved or pooled."""
    if order is None and front is None and pooled is None:
        return x, None
    return moved(x, block, order, front, pooled)


def sizes_of(length: int, block: int, device) -> torch.Tensor:
    """How many of `length` tokens each block has, float32."""
    return (length - torch.arange(0, length, block, device=device)).clamp(max=block).float()


def joined(q_mean: torch.Tensor, length: int) -> torch.Tensor:
    """Means of blocks of QUERIES from those of blocks of ROWS, (B, H, n, P)."""
    per, blocks = QUERIES // ROWS, -(-length // ROWS)
    sums = q_mean[:, :, :blocks] * sizes_of(length, ROWS, q_mean.device)[:, None]
    sums = F.pad(sums, (0, 0, 0, -blocks % per)).unflatten(2, (-1, per)).sum(3)
    return sums / sizes_of(length, QUERIES, q_mean.device)[:, None]


def attend(ready: Ready, like: torch.Tensor, blocks: Lists) -> torch.Tensor:
    """Attention of `ready` by lists, in its order: (B, H, N, D). like: q, whose shape and dtype it gets. ValueError for
    lists of another call."""
    if like.shape != (*ready.q.shape[:2], ready.sizes[0], ready.sizes[2]):
        raise ValueError(f"q {tuple(like.shape)} is not what was prepared")
    check_lists(blocks, like.shape, ready.sizes[1])
    out = empty_output(like)
    with torch.cuda.device_of(like):
        start(ready, out, None, *blocks.tensors)
    return out
