"""Starts the kernel: the function to call, and the operator that torch sees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import torch

from ...core.gpu import capability_of
from ...core.tensor_layout import dense_rows
from . import block_lists
from .block_lists import Lists
from .device import compiled
from .quantize import LOG2_E, keys, mean_of, means, queries, values
from .tiling import MEANS, Cut, cut, edge_stages, padded

# The lowest bias, in log2 units, of a key that is not hidden: above the kernel's first row maximum, -2**120.
LOWEST = -(2.0**100)
# ComfyUI imports the pack under a name of its own, and torch spoils an operator whose name is given away again.
OPERATOR = re.sub(r"\W", "_", f"video_attention_{__package__}") + "::block_attention"
SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, Tensor? bias, float scale, bool quantised, bool float8, bool rotated, "
    "Tensor? index, Tensor? count, Tensor? choice, Tensor? masks, Tensor? left) -> Tensor"
)
INTERPRETED = (8, 0)
# How many elements the kernel counts with 32 bits: in a tile from its first row to its last, 128 of them.
FAR = 1 << 24


def attention(
    q, k, v, mask=None, scale: float | None = None, *, quantised: bool, float8: bool = False,
    rotated: bool = True, blocks: Lists | None = None,
):  # fmt: skip
    """softmax(scale * Q K^T + mask) V with float32 sums: (B, H, Lq, D), a token's heads side by side in memory.

    q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D), Hkv a divisor of H, D up to 128, float16 or bfloat16, any strides.
    mask: (1|B, 1|H, 1, Lk), bool (True may be seen) or added to the scores. scale: positive, 1 / sqrt(D) unless given.
    quantised: INT8 scores. float8: weights and values in float8 e4m3, which takes compute capability 8.9.
    rotated: whether q and k are rotated before INT8, which spreads a channel that is far larger than the others.
    blocks: which key blocks each block of queries sees, all unless given.
    Changes none of its inputs. A query that may see nothing gets zeros. ValueError for what the kernel cannot take.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    check(q, k, v, mask, scale)
    if blocks is not None:
        check_lists(blocks, q.shape, k.shape[2], mask)
    tensors = (None,) * 5 if blocks is None else blocks.tensors
    return block_attention(q, k, v, bias_of(mask), scale, quantised, float8, rotated, *tensors)


def check(q, k, v, mask, scale: float) -> None:
    """ValueError for tensors that do not fit each other or the kernel."""
    if q.shape[1] % k.shape[1] or k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not fit each other")
    if 0 in q.shape or 0 in k.shape:
        raise ValueError("empty tensors")
    if max(q.shape[2], k.shape[2], q.shape[1] * q.shape[3]) > FAR // 2:
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)}: takes up to {FAR // 2} tokens, and as many channels")
    if not scale > 0:
        raise ValueError(f"scale {scale:g}, takes a positive one")
    fits = mask is None or all(n in (1, most) for n, most in zip(mask.shape, q.shape[:2]))
    if not fits or (mask is not None and mask.shape[2:] != (1, k.shape[2])):
        raise ValueError(f"mask {tuple(mask.shape)}, takes (1|B, 1|H, 1, {k.shape[2]})")
    padded(q.shape[-1])


def check_lists(blocks: Lists, q: torch.Size, kv_len: int, mask=None) -> None:
    """ValueError for lists of another call."""
    batch, heads, rows, _ = blocks.index.shape
    if batch not in (1, q[0]) or heads not in (1, q[1]) or rows != -(-q[2] // block_lists.QUERIES):
        raise ValueError(f"lists for {batch} x {heads} x {rows} blocks of queries, q is {tuple(q)}")
    if blocks.kv_len != kv_len:
        raise ValueError(f"lists for {blocks.kv_len} keys, k has {kv_len}")
    if blocks.left is not None and mask is not None and mask.shape[1] != 1:
        raise ValueError("means of blocks need a mask that is the same for every head")


def near_rows(*tensors: torch.Tensor):
    """As layout.dense_rows; copies also where tokens stand FAR apart."""
    return tuple(
        t if t.stride(2) < FAR else t.clone(memory_format=torch.contiguous_format) for t in dense_rows(*tensors)
    )


def bias_of(mask: torch.Tensor | None) -> torch.Tensor | None:
    """A key mask as contiguous float32 in log2 units; -inf for a key that is hidden, and for no other."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
    return (mask.float() * LOG2_E).clamp_(min=LOWEST).masked_fill_(mask == -torch.inf, -torch.inf).contiguous()


def empty_output(q: torch.Tensor) -> torch.Tensor:
    """(B, H, Lq, D) over memory of (B, Lq, H, D): joining a token's heads is then a view."""
    batch, heads, length, dim = q.shape
    return q.new_empty(batch, length, heads, dim).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class Ready:
    """What the kernel reads of one call besides the lists, as quantize.py makes it; None where it reads none.

    sizes: (q's length, k's length, head size).
    """

    one: Cut
    scale: float
    sizes: tuple[int, int, int]
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    q_scale: torch.Tensor | None = None
    k_scale: torch.Tensor | None = None
    v_scale: torch.Tensor | None = None
    k_mean: torch.Tensor | None = None
    pool_scale: torch.Tensor | None = None
    v_mean: torch.Tensor | None = None
    mass: torch.Tensor | None = None


@cache
def triton_version() -> tuple[int, ...]:
    """(major, minor, micro); ImportError where Triton is missing."""
    import triton

    return tuple(map(int, re.findall(r"\d+", triton.__version__)[:3]))


def cut_for(q, quantised: bool, **how) -> Cut:
    capability = (capability_of(q.device) if q.device.type == "cuda" else None) or INTERPRETED
    return cut(capability, quantised, q.shape[-1], triton=triton_version(), **how)


def run(q, k, v, bias, scale, quantised: bool, float8: bool, rotated: bool, index, count, choice, masks, left):
    """The body of the operator: prepares what the kernel reads, then starts it."""
    one = cut_for(q, quantised, bias=bias is not None, listed=index is not None, float8=float8)
    q, k, v = near_rows(q, k, v)
    out, sizes, q_scale, k_scale, v_scale, pool_scale = empty_output(q), (q.shape[2], *k.shape[2:]), *(None,) * 4
    with torch.cuda.device_of(q):
        k_mean, v_mean, mass = (None,) * 3 if left is None else means(k, v, bias, one.n)
        if quantised:
            shift = mean_of(k, rotated=rotated)
            q, q_scale, _ = queries(q, scale, one.m, rotated=rotated)
            k, k_scale, _ = keys(k, shift, one.n, rotated=rotated)
            if left is not None:
                k_mean, pool_scale, _ = keys(k_mean, shift, MEANS, rotated=rotated)
        if float8 or one.halves:
            v, v_scale, _ = values(v, one.n, torch.float8_e4m3fn if float8 else torch.float16, halves=one.halves > 0)
            v_mean = None if left is None else (v_mean / v_scale[:, :, None, : sizes[2]]).to(v_mean.dtype)
        ready = Ready(one, scale, sizes, q, k, v, q_scale, k_scale, v_scale, k_mean, pool_scale, v_mean, mass)
        start(ready, out, bias, index, count, choice, masks, left)
    return out


def start(ready: Ready, out, bias, index, count, choice, masks, left) -> None:
    """Starts a program for each block of queries, which writes to `out`."""
    (q_len, kv_len, dim), one, (batch, heads), kv_heads = ready.sizes, ready.one, out.shape[:2], ready.k.shape[1]
    quantised, eight = ready.q_scale is not None, ready.v.dtype == torch.float8_e4m3fn
    edges = edge_stages(one, quantised, listed=index is not None, masks=masks is not None, means=left is not None)
    compiled()["attend"][(batch * heads * -(-q_len // one.m),)](
        ready.q, ready.q_scale, ready.k, ready.k_scale, ready.v, ready.v_scale, bias, out, index, count, choice, masks,
        left, ready.k_mean, ready.pool_scale, ready.v_mean, ready.mass, ready.scale * LOG2_E,
        *(step for t in (ready.q, ready.k, ready.v, out) for step in t.stride()[:3]),
        *steps(bias, kv_len), *steps(index, 1), 0 if index is None else index.shape[3],
        0 if ready.mass is None else ready.mass.shape[1], heads, heads // kv_heads, q_len, kv_len, dim, padded(dim),
        one.m, one.n, MEANS, quantised, eight, one.halves, one.late, one.stages, edges,
        num_warps=one.warps, num_stages=one.stages, enable_fp_fusion=True,
    )  # fmt: skip


def steps(table: torch.Tensor | None, row: int) -> tuple[int, int]:
    """How far a contiguous (1|B, 1|H, ...) table moves on with a batch and a head, in steps of `row`."""
    if table is None:
        return 0, 0
    batch, heads = table.shape[:2]
    return heads * row if batch > 1 else 0, row if heads > 1 else 0


# Opaque to torch.compile, which needs the shape alone.
block_attention = torch.library.custom_op(OPERATOR, run, mutates_args=(), schema=SCHEMA)
block_attention.register_fake(lambda q, *others: empty_output(q))
