"""torch's own scaled-dot-product attention, as a whole and each of its kernels alone.

A single kernel is called as the operator behind torch.nn.functional.scaled_dot_product_attention, not through
torch.nn.attention.sdpa_kernel: that switch is process-wide, so two GPUs driven from two threads could leave it set.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ..core.geometry import MASKS, Geometry
from ..core.reason import Reason
from ..core.tensor_layout import dense_rows, expand_kv
from ..core.torch_sdpa import sdpa
from .spec import CDNA, EVERY_DEVICE, FLOATS, HALVES, MAX_BLOCKS, RDNA, Backend, Limits, copies_of, scores_of

# Attention over time at each place has batches of any size; ComfyUI splits them here too.
MAX_BATCH = 2**15
# On ROCm both fused operators are AOTriton's (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp in torch), RDNA 3.5
# from https://github.com/pytorch/pytorch/pull/174105 on. What a build lacks of these raises, and is a counted reason.
AOTRITON = (*CDNA, *RDNA)


def attend(q, k, v, mask=None, scale=None):
    """Run torch's attention, large batches in parts. As core.kernel.Kernel."""
    if q.shape[0] > MAX_BATCH:
        parts = (batch_parts(t, q.shape[0]) for t in (q, k, v, mask))
        return torch.cat([attend(*some, scale=scale) for some in zip(*parts)])
    return sdpa(q, k, v, attn_mask=mask, scale=scale, enable_gqa=k.shape[1] != q.shape[1])


def batch_parts(t, batch):
    """Cut a tensor into parts of MAX_BATCH along its first axis.

    t: (1|batch, ...), or None: the same for every part.
    batch: entries of the call.
    """
    if t is None or t.shape[0] == 1:
        return [t] * -(-batch // MAX_BATCH)
    return t.split(MAX_BATCH)


def flash(q, k, v, mask=None, scale=None):
    """Run torch's FlashAttention operator. As core.kernel.Kernel."""
    # The CPU operator takes any last axis for dense and is wrong in silence; scaled_dot_product_attention checks.
    q, k, v = dense_rows(q, k, v)
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, False, attn_mask=additive(mask, q), scale=scale
        )[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False, False, scale=scale)[0]


def cudnn(q, k, v, mask=None, scale=None):
    """Run cuDNN's operator. As core.kernel.Kernel."""
    bias = aligned(additive(mask, q), q, k)
    return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, bias, False, 0.0, False, False, scale=scale)[0]


def efficient(q, k, v, mask=None, scale=None):
    """Run torch's memory-efficient operator. As core.kernel.Kernel."""
    bias = aligned(additive(mask, q), q, k)
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, False, 0.0, False, scale=scale)[0]


def math(q, k, v, mask=None, scale=None):
    """Run torch's unfused operator in float32 at least. As core.kernel.Kernel."""
    # Left alone it computes halves as halves once ComfyUI has set allow_fp16_bf16_reduction_math_sdp for the process.
    dtype = q.dtype
    k, v = expand_kv(k, v, q.shape[1])
    q, k, v = (t.to(torch.promote_types(dtype, torch.float32)) for t in (q, k, v))
    bias = mask if mask is None or mask.dtype == torch.bool else mask.to(q.dtype)
    out = torch.ops.aten._scaled_dot_product_attention_math(q, k, v, additive(bias, q), 0.0, False, scale=scale)[0]
    return out.to(dtype)


def additive(mask, q):
    """Return a bool mask as zeros and -inf in q's dtype, a float mask and None as they are."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)


def aligned(mask, q, k):
    """Expand a mask to (B, H, Lq, Lk) with rows that start on 16-byte steps, as the CUDA kernels demand.

    mask: (1|B, 1|H, 1|Lq, Lk), or None, which stays None.
    q: (B, H, Lq, D).
    k: (B, Hkv, Lk, D).
    """
    if mask is None:
        return None
    lk = k.shape[2]
    if lk % 16:
        mask = F.pad(mask, (0, 16 - lk % 16))[..., :lk]
    return mask.expand(q.shape[0], q.shape[1], q.shape[2], lk)


def flash_reasons(geometry: Geometry) -> Iterator[Reason]:
    """Yield what the operator for CUDA refuses and the one for CPUs takes."""
    if geometry.device == "cuda" and geometry.dtype not in HALVES:
        yield Reason(f"dtype {str(geometry.dtype).removeprefix('torch.')} on CUDA, takes float16, bfloat16")
    if geometry.device == "cuda" and geometry.mask != "none":
        yield Reason(f"{geometry.mask} mask on CUDA")
    if geometry.device == "cuda" and (geometry.head_dim > 256 or geometry.head_dim % 8):
        yield Reason(f"head size {geometry.head_dim} on CUDA, takes 8 to 256 in steps of 8")


def scratch_of_math(geometry: Geometry) -> int:
    """Count the scores and the softmax, and q, k and v in float32, q and k scaled."""
    wide = max(4, geometry.dtype.itemsize)
    return 2 * scores_of(geometry) + copies_of(geometry, 2 * wide, 2 * wide, wide)


AUTO = Backend(
    name="sdpa",
    summary="torch scaled_dot_product_attention; torch picks its own kernel. Exact, on every device.",
    limits=Limits(devices=EVERY_DEVICE, dtypes=FLOATS, masks=MASKS, exact=True),
    load=lambda: attend,
    scores=None,
)
FLASH = Backend(
    name="sdpa flash",
    summary="torch's FlashAttention-2 kernel on CUDA, its blocked kernel on CPU. Exact.",
    limits=Limits(
        devices=("cuda", "cpu"),
        dtypes=FLOATS,
        masks=MASKS,
        exact=True,
        gqa=False,
        min_capability=(8, 0),
        max_batch=MAX_BLOCKS,
        amd=AOTRITON,
    ),
    load=lambda: flash,
    other_reasons=flash_reasons,
    besides="on GPUs 16 bit, no masks, head sizes 8 to 256 in steps of 8",
)
CUDNN = Backend(
    name="sdpa cudnn",
    summary="cuDNN's fused kernel through torch. Exact; often the fastest exact kernel on Hopper.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        masks=MASKS,
        exact=True,
        head_dims=range(8, 129),
        head_dim_multiple=8,
        gqa=False,
        min_capability=(8, 0),
        max_batch=MAX_BLOCKS,
        grad=False,
    ),
    load=lambda: cudnn,
)
EFFICIENT = Backend(
    name="sdpa efficient",
    summary="torch's memory-efficient kernel. Exact, takes masks and float32.",
    limits=Limits(
        devices=("cuda",),
        dtypes=(*HALVES, torch.float32),
        masks=MASKS,
        exact=True,
        head_dim_multiple=8,
        gqa=False,
        min_capability=(5, 0),
        max_batch_heads=MAX_BLOCKS,
        grad=False,
        amd=AOTRITON,
    ),
    load=lambda: efficient,
)
MATH = Backend(
    name="sdpa math",
    summary="torch's unfused kernel: exact, any shape, holds the whole score matrix.",
    limits=Limits(devices=EVERY_DEVICE, dtypes=FLOATS, masks=MASKS, exact=True, max_scores=2**31),
    load=lambda: math,
    auto=False,
    scores=True,
    scratch=scratch_of_math,
)
