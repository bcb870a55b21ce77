"""What a backend is: a name, how to load it, and which calls it refuses and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.error_handling import error_message
from ..core.geometry import MASKS, Geometry
from ..core.reason import Reason

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HALVES = (torch.float16, torch.bfloat16)
ANY, POSITIVE, DEFAULT = "any", "positive", "1 / sqrt(head size)"

# CUDA launches at most this many blocks along the axes that kernels give to batch and heads; torch's own kernels and
# others' then fail with "invalid configuration argument" (https://github.com/pytorch/pytorch/issues/146704).
MAX_BLOCKS = 65535

# q: (B, H, Lq, D), k, v: (B, Hkv, Lk, D), mask: (1|B, 1|H, 1|Lq, Lk) or None, scale or None -> (B, H, Lq, D).
# One that can let go of q, k, v before it answers has that as `consume([q, k, v], mask, scale)`.
Kernel = Callable[..., torch.Tensor]


class Unavailable(Exception):
    """A backend cannot be loaded here. The message says what is missing and how to get it."""


@dataclass(frozen=True)
class Limits:
    """What a kernel can take, as data: the refusals and the compatibility table both follow from it.

    head_dims: the sizes allowed, a tuple or a range. kv_multiple: kv_len must be a multiple of it.
    min_capability: CUDA compute capability, checked on NVIDIA only. amd: whether the library knows AMD GPUs too.
    exact: no quantisation and no approximation.
    scale: ANY, POSITIVE or DEFAULT. No word of causal attention: ComfyUI's attention functions cannot ask for it.
    useful_from: below this many keys `auto` passes the kernel by, since launching it costs more than it saves.
    """

    devices: tuple[str, ...] = ()
    dtypes: tuple[torch.dtype, ...] = FLOATS
    head_dims: tuple[int, ...] | range = range(1, 1 << 16)
    head_dim_multiple: int = 1
    masks: tuple[str, ...] = MASKS
    gqa: bool = True
    kv_multiple: int = 1
    scale: str = ANY
    min_capability: tuple[int, int] = (0, 0)
    max_batch: int = 0
    max_batch_heads: int = 0
    max_scores: int = 0
    exact: bool = True
    grad: bool = True
    useful_from: int = 0
    amd: bool = False


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    load: returns the Kernel, or raises Unavailable. Called when a node patches a model, never in a forward.
    also_refuses: a reason that Limits cannot say, or None; besides: the same in words, for the table of backends.
    auto: whether `auto` may take it. promise: of one that `auto` takes only where Video Attention Benchmark has seen it
    right, the relative L2 error that counts as right, beside the rounding of the dtype; 0: of any other.
    scores: whether it holds the whole matrix of scores, queries by keys; None where another library decides that.
    """

    name: str
    summary: str
    limits: Limits
    load: Callable[[], Kernel]
    also_refuses: Callable[[Geometry], Reason | None] | None = None
    auto: bool = True
    promise: float = 0.0
    besides: str = ""
    scores: bool | None = False

    def refuses(self, geometry: Geometry) -> Reason | None:
        """Why this backend cannot run the call, in a few words, or None."""
        reason = _device_reason(self.limits, geometry) or _shape_reason(self.limits, geometry)
        if reason is None and self.also_refuses is not None:
            reason = answer(self.also_refuses, geometry)
        return reason


def answer(refuses: Callable, *asked) -> Reason | None:
    """refuses(*asked), a reason or None; that it failed, where it did, for then nobody knows whether it would run."""
    try:
        return refuses(*asked)
    except Exception as broken:
        return Reason(f"it cannot be asked ({error_message(broken)})")


def _device_reason(limits: Limits, geometry: Geometry) -> Reason | None:
    if limits.devices and geometry.device not in limits.devices:
        return Reason(f"needs {' or '.join(limits.devices)}, the tensors are on {geometry.device}")
    if geometry.amd is not None and limits.devices and not limits.amd:
        return nvidia_alone(geometry)
    if not limits.exact and (geometry.high_precision or not geometry.low_precision):
        return Reason("the model asks for exact attention here")
    if geometry.capability is not None and geometry.capability < limits.min_capability:
        need, have = (".".join(map(str, c)) for c in (limits.min_capability, geometry.capability))
        return Reason(f"needs compute capability {need}, this GPU has {have}")
    if geometry.dtype not in limits.dtypes:
        return Reason(f"dtype {_name(geometry.dtype)}, takes {', '.join(map(_name, limits.dtypes))}")
    if geometry.grad and not limits.grad:
        return Reason("no gradient")
    return None


def nvidia_alone(geometry: Geometry) -> Reason:
    """Why a kernel for NVIDIA refuses a call on an AMD GPU."""
    return Reason(f"made for NVIDIA, this GPU is AMD's {geometry.amd}")


def _shape_reason(limits: Limits, geometry: Geometry) -> Reason | None:
    if 0 in (geometry.batch, geometry.heads, geometry.q_len, geometry.kv_len, geometry.head_dim):
        return Reason("empty tensors")
    if geometry.head_dim not in limits.head_dims or geometry.head_dim % limits.head_dim_multiple:
        return Reason(f"head size {geometry.head_dim}, takes {head_dims_text(limits)}")
    if geometry.mask not in limits.masks:
        return Reason(f"{geometry.mask} mask")
    if geometry.kv_heads != geometry.heads and not limits.gqa:
        return Reason("grouped-query attention")
    if geometry.kv_len % limits.kv_multiple:
        return Reason(f"key length {geometry.kv_len} is not a multiple of {limits.kv_multiple}")
    if geometry.scale is not None and not _scales(limits.scale, geometry):
        return Reason(
            f"scale {geometry.scale:g}, takes {'a positive one' if limits.scale == POSITIVE else limits.scale}"
        )
    if limits.max_batch and geometry.batch > limits.max_batch:
        return Reason(f"batch is {geometry.batch}, takes up to {limits.max_batch}")
    if limits.max_batch_heads and geometry.batch * geometry.heads > limits.max_batch_heads:
        return Reason(f"batch x heads is {geometry.batch * geometry.heads}, takes up to {limits.max_batch_heads}")
    scores = geometry.batch * geometry.heads * geometry.q_len * geometry.kv_len
    if limits.max_scores and scores > limits.max_scores:
        return Reason(f"would hold {scores * 4 / 2**30:.1f} GiB of scores")
    return None


def _scales(allowed: str, geometry: Geometry) -> bool:
    if allowed == DEFAULT:
        return abs(geometry.scale * geometry.head_dim**0.5 - 1) < 1e-6
    return allowed == ANY or geometry.scale > 0


def head_dims_text(limits: Limits) -> str:
    """`64, 96, 128`, `1 to 256`, `8 to 256 in steps of 8` or `any`."""
    dims, step = limits.head_dims, limits.head_dim_multiple
    if isinstance(dims, tuple):
        return ", ".join(map(str, dims))
    if dims.stop > 1 << 15:
        return "any" if step == 1 else f"multiples of {step}"
    return f"{max(dims.start, step)} to {dims.stop - 1}" + (f" in steps of {step}" if step > 1 else "")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
