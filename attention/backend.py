"""What a backend is: a name, how to load it, and which calls it refuses and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .call import MASKS, Call
from .failures import brief

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
    also_refuses: Callable[[Call], str | None] | None = None
    auto: bool = True
    promise: float = 0.0
    besides: str = ""
    scores: bool | None = False

    def refuses(self, call: Call) -> str | None:
        """Why this backend cannot run the call, in a few words, or None."""
        reason = _device_reason(self.limits, call) or _shape_reason(self.limits, call)
        if reason is None and self.also_refuses is not None:
            reason = answer(self.also_refuses, call)
        return reason


def answer(refuses: Callable, *asked) -> str | None:
    """refuses(*asked), a reason or None; that it failed, where it did, for then nobody knows whether it would run."""
    try:
        return refuses(*asked)
    except Exception as broken:
        return f"it cannot be asked ({brief(broken)})"


def _device_reason(limits: Limits, call: Call) -> str | None:
    if limits.devices and call.device not in limits.devices:
        return f"needs {' or '.join(limits.devices)}, the tensors are on {call.device}"
    if call.amd is not None and limits.devices and not limits.amd:
        return nvidia_alone(call)
    if not limits.exact and (call.high_precision or not call.low_precision):
        return "the model asks for exact attention here"
    if call.capability is not None and call.capability < limits.min_capability:
        need, have = (".".join(map(str, c)) for c in (limits.min_capability, call.capability))
        return f"needs compute capability {need}, this GPU has {have}"
    if call.dtype not in limits.dtypes:
        return f"dtype {_name(call.dtype)}, takes {', '.join(map(_name, limits.dtypes))}"
    if call.grad and not limits.grad:
        return "no gradient"
    return None


def nvidia_alone(call: Call) -> str:
    """Why a kernel for NVIDIA refuses a call on an AMD GPU."""
    return f"made for NVIDIA, this GPU is AMD's {call.amd}"


def _shape_reason(limits: Limits, call: Call) -> str | None:
    if 0 in (call.batch, call.heads, call.q_len, call.kv_len, call.head_dim):
        return "empty tensors"
    if call.head_dim not in limits.head_dims or call.head_dim % limits.head_dim_multiple:
        return f"head size {call.head_dim}, takes {head_dims_text(limits)}"
    if call.mask not in limits.masks:
        return f"{call.mask} mask"
    if call.kv_heads != call.heads and not limits.gqa:
        return "grouped-query attention"
    if call.kv_len % limits.kv_multiple:
        return f"key length {call.kv_len} is not a multiple of {limits.kv_multiple}"
    if call.scale is not None and not _scales(limits.scale, call):
        return f"scale {call.scale:g}, takes {'a positive one' if limits.scale == POSITIVE else limits.scale}"
    if limits.max_batch and call.batch > limits.max_batch:
        return f"batch is {call.batch}, takes up to {limits.max_batch}"
    if limits.max_batch_heads and call.batch * call.heads > limits.max_batch_heads:
        return f"batch x heads is {call.batch * call.heads}, takes up to {limits.max_batch_heads}"
    scores = call.batch * call.heads * call.q_len * call.kv_len
    if limits.max_scores and scores > limits.max_scores:
        return f"would hold {scores * 4 / 2**30:.1f} GiB of scores"
    return None


def _scales(allowed: str, call: Call) -> bool:
    if allowed == DEFAULT:
        return abs(call.scale * call.head_dim**0.5 - 1) < 1e-6
    return allowed == ANY or call.scale > 0


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
