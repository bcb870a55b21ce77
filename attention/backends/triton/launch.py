"""Starts the kernel: the function to call, and the operator that torch sees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import torch

from ...core.gpu import amd_of, capability_of
from ...core.tensor_layout import dense_rows, empty_output
from . import block_lists
from .block_lists import BlockLists
from .device import compiled
from .quantize import LOG2_E, block_means, mean_of, quantize_keys, quantize_queries, scale_values
from .tiling import AMD_FLOAT8, Tiling, edge_stages, padded, tiling_for

# The lowest bias, in log2 units, of a key that is not hidden: above the kernel's first row maximum, -2**120.
LOWEST = -(2.0**100)
# ComfyUI imports the pack under a name of its own, and torch spoils an operator whose name is given away again.
OPERATOR = re.sub(r"\W", "_", f"video_attention_{__package__}") + "::block_attention"
SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, Tensor? bias, float scale, bool quantized, bool float8, bool rotated, "
    "Tensor? index, Tensor? count, Tensor? mask_index, Tensor? masks, Tensor? by_mean) -> Tensor"
)
# Whose tiling Triton's interpreter takes on a CPU.
INTERPRETED = (8, 0)
# How many elements the kernel counts with 32 bits: in a tile from its first row to its last, 128 of them.
MAX_ROW_STRIDE = 1 << 24


def attention(
    q, k, v, mask=None, scale: float | None = None, *, quantized: bool, float8: bool = False,
    rotated: bool = True, blocks: BlockLists | None = None,
):  # fmt: skip
    """Compute softmax(scale * Q K^T + mask) V with float32 sums: (B, H, Lq, D), a token's heads side by side in memory.

    q: (B, H, Lq, D), D up to 128, float16 or bfloat16, any strides.
    k: (B, Hkv, Lk, D), Hkv a divisor of H.
    v: (B, Hkv, Lk, D).
    mask: (1|B, 1|H, 1, Lk), bool (True may be seen) or added to the scores.
    scale: positive; None: 1 / sqrt(D).
    quantized: whether scores are INT8.
    float8: whether weights and values are float8 e4m3: from compute capability 8.9 on, and one of AMD_FLOAT8.
    rotated: whether q and k are rotated before INT8, which spreads a channel that is far larger than the others.
    blocks: which key blocks each block of queries sees; None: all.
    Changes none of its inputs. A query that may see nothing gets zeros.
    Raises ValueError for what the kernel cannot take.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    check(q, k, v, mask, scale)
    if blocks is not None:
        check_lists(blocks, q.shape, k.shape[2], mask)
    tensors = (None,) * 5 if blocks is None else blocks.tensors
    return block_attention(q, k, v, bias_of(mask), scale, quantized, float8, rotated, *tensors)


def check(q, k, v, mask, scale: float) -> None:
    """Raise ValueError for tensors that do not fit each other or the kernel."""
    if q.shape[1] % k.shape[1] or k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not fit each other")
    if 0 in q.shape or 0 in k.shape:
        raise ValueError("empty tensors")
    if max(q.shape[2], k.shape[2], q.shape[1] * q.shape[3]) > MAX_ROW_STRIDE // 2:
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)}: takes up to {MAX_ROW_STRIDE // 2} tokens, and as many channels"
        )
    if not scale > 0:
        raise ValueError(f"scale {scale:g}, takes a positive one")
    fits = mask is None or all(n in (1, most) for n, most in zip(mask.shape, q.shape[:2]))
    if not fits or (mask is not None and mask.shape[2:] != (1, k.shape[2])):
        raise ValueError(f"mask {tuple(mask.shape)}, takes (1|B, 1|H, 1, {k.shape[2]})")
    padded(q.shape[-1])


def check_lists(blocks: BlockLists, q: torch.Size, kv_len: int, mask=None) -> None:
    """Raise ValueError for lists of another call.

    q: the call's shape of queries.
    """
    batch, heads, rows, _ = blocks.index.shape
    if batch not in (1, q[0]) or heads not in (1, q[1]) or rows != -(-q[2] // block_lists.QUERIES):
        raise ValueError(f"lists for {batch} x {heads} x {rows} blocks of queries, q is {tuple(q)}")
    if blocks.kv_len != kv_len:
        raise ValueError(f"lists for {blocks.kv_len} keys, k has {kv_len}")
    if blocks.by_mean is not None and mask is not None and mask.shape[1] != 1:
        raise ValueError("means of blocks need a mask that is the same for every head")


def with_near_rows(*tensors: torch.Tensor):
    """Give tensors as layout.dense_rows does, and copies of those whose tokens stand MAX_ROW_STRIDE or more apart."""
    dense = dense_rows(*tensors)
    return tuple(t if t.stride(2) < MAX_ROW_STRIDE else t.clone(memory_format=torch.contiguous_format) for t in dense)


def bias_of(mask: torch.Tensor | None) -> torch.Tensor | None:
    """Turn a key mask into contiguous float32 in log2 units; -inf for a key that is hidden, and for no other."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -torch.inf)
    return (mask.float() * LOG2_E).clamp_(min=LOWEST).masked_fill_(mask == -torch.inf, -torch.inf).contiguous()


@dataclass(frozen=True, eq=False)
class KernelInputs:
    """What the kernel reads of one call besides the lists, as quantize.py makes it; None where it reads none.

    tiling: how the call is cut.
    scale: of the scores.
    sizes: (q's length, k's length, head size).
    q: as it is, or as quantize_queries gives it.
    k: as it is, or as quantize_keys gives it.
    v: as it is, or as scale_values gives it.
    q_scale: q's scales.
    k_scale: k's scales.
    v_scale: v's scales.
    k_mean: (B, Hkv, C, D or padded D), means of the blocks of keys.
    pool_scale: k_mean's scales.
    v_mean: (B, Hkv, C, D or padded D), means of the blocks of values.
    mass: (B, C) float32, log2 of the keys that a mean stands for.
    """

    tiling: Tiling
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
    """Give Triton's version as (major, minor, micro). Raises ImportError where it is missing."""
    import triton

    return tuple(map(int, re.findall(r"\d+", triton.__version__)[:3]))


def tiling_of(q, quantized: bool, **how) -> Tiling:
    """Look up the Tiling of a call with such queries on their device.

    how: as of tiling_for.
    """
    return tiling_for(gpu_of(q.device), quantized, q.shape[-1], triton=triton_version(), **how)


def gpu_of(device: torch.device) -> tuple[int, int] | str:
    """Give the compute capability of a GPU, or AMD's name of its architecture."""
    return (amd_of(device) or capability_of(device)) if device.type == "cuda" else INTERPRETED


def float8_of(device: torch.device) -> torch.dtype:
    """Give the float8 with 3 bits of mantissa that a GPU multiplies."""
    return getattr(torch, AMD_FLOAT8.get(gpu_of(device), "float8_e4m3fn"))


def run(q, k, v, bias, scale, quantized: bool, float8: bool, rotated: bool, index, count, mask_index, masks, by_mean):
    """Prepare what the kernel reads, then start it: the body of the operator."""
    tiling = tiling_of(q, quantized, bias=bias is not None, listed=index is not None, float8=float8)
    q, k, v = with_near_rows(q, k, v)
    out, sizes, q_scale, k_scale, v_scale, pool_scale = empty_output(q), (q.shape[2], *k.shape[2:]), *(None,) * 4
    with torch.cuda.device_of(q):
        k_mean, v_mean, mass = (None,) * 3 if by_mean is None else block_means(k, v, bias, tiling.block)
        if quantized:
            shift = mean_of(k, rotated=rotated)
            q, q_scale, _ = quantize_queries(q, scale, tiling.m, rotated=rotated)
            k, k_scale, _ = quantize_keys(k, shift, tiling.block, rotated=rotated)
            if by_mean is not None:
                k_mean, pool_scale, _ = quantize_keys(k_mean, shift, tiling.means, rotated=rotated)
        if float8 or tiling.fp16_accumulate:
            dtype = float8_of(v.device) if float8 else torch.float16
            v, v_scale, _ = scale_values(v, tiling.block, dtype, fp16_accumulate=tiling.fp16_accumulate > 0)
            v_mean = None if by_mean is None else (v_mean / v_scale[:, :, None, : sizes[2]]).to(v_mean.dtype)
        scales, means = (q_scale, k_scale, v_scale), (k_mean, pool_scale, v_mean, mass)
        inputs = KernelInputs(tiling, scale, sizes, q, k, v, *scales, *means)
        launch_kernel(inputs, out, bias, index, count, mask_index, masks, by_mean)
    return out


def launch_kernel(inputs: KernelInputs, out, bias, index, count, mask_index, masks, by_mean) -> None:
    """Start a program for each block of queries, which writes to `out`."""
    (q_len, kv_len, dim), tiling = inputs.sizes, inputs.tiling
    batch, heads, kv_heads = *out.shape[:2], inputs.k.shape[1]
    quantized, float8 = inputs.q_scale is not None, inputs.v.element_size() == 1
    edges = edge_stages(tiling, quantized, listed=index is not None, masks=masks is not None, means=by_mean is not None)
    compiled()["attend"][(batch * heads * -(-q_len // tiling.m),)](
        inputs.q, inputs.q_scale, inputs.k, inputs.k_scale, inputs.v, inputs.v_scale, bias, out, index, count,
        mask_index, masks, by_mean, inputs.k_mean, inputs.pool_scale, inputs.v_mean, inputs.mass,
        inputs.scale * LOG2_E, *(step for t in (inputs.q, inputs.k, inputs.v, out) for step in t.stride()[:3]),
        *table_strides(bias, kv_len), *table_strides(index, 1), 0 if index is None else index.shape[3],
        0 if inputs.mass is None else inputs.mass.shape[1], heads, heads // kv_heads, q_len, kv_len, dim, padded(dim),
        tiling.m, tiling.n, tiling.means, quantized, float8, tiling.fp16_accumulate, tiling.pipelined_pv, tiling.stages,
        edges, tiling.parts, num_warps=tiling.warps, num_stages=tiling.stages, enable_fp_fusion=True, **tiling.options,
    )  # fmt: skip


def table_strides(table: torch.Tensor | None, row: int) -> tuple[int, int]:
    """Give the strides of a contiguous (1|B, 1|H, ...) table for a batch entry and a head, in steps of `row`."""
    if table is None:
        return 0, 0
    batch, heads = table.shape[:2]
    return heads * row if batch > 1 else 0, row if heads > 1 else 0


# Opaque to torch.compile, which needs the shape alone.
block_attention = torch.library.custom_op(OPERATOR, run, mutates_args=(), schema=SCHEMA)
block_attention.register_fake(lambda q, *others: empty_output(q))
