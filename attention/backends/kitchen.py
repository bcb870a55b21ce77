"""INT8 attention of comfy-kitchen, the kernel library that ComfyUI installs.

Q K^T and P V both run in INT8 after a block-Hadamard rotation; the softmax stays in float32. Measured error about
0.014 relative L2 (https://github.com/Comfy-Org/comfy-kitchen/pull/104).
"""

from types import ModuleType

import torch

from ..core.error_handling import error_message
from ..core.geometry import MASKS
from ..core.kernel import Kernel
from .spec import HALVES, MAX_BLOCKS, RDNA, Backend, Limits, Unavailable, copies_of


def load_int8() -> Kernel:
    """Load comfy-kitchen's INT8 attention."""
    try:
        import comfy_kitchen
    except Exception as error:  # a build for another driver raises anything from ImportError to RuntimeError
        raise Unavailable(f"comfy-kitchen cannot be imported ({error_message(error)}); update ComfyUI") from error
    # ComfyUI 0.30 pins 0.2.26, which has no attention at all: ask, never assume.
    if not hasattr(comfy_kitchen, "int8_attention"):
        raise Unavailable(
            "this comfy-kitchen has no int8_attention; it needs comfy-kitchen 0.2.30 (ComfyUI 0.32) or later"
        )
    if not comfy_kitchen.int8_attention_is_available():
        raise Unavailable(
            "comfy-kitchen's INT8 attention needs an NVIDIA GPU from Turing on, or an AMD GPU from RDNA3 on"
        )
    return kernel(comfy_kitchen)


def kernel(comfy_kitchen: ModuleType) -> Kernel:
    """Make a Kernel of `int8_attention`; where the library can quantise first, its `consume` works in two stages.

    consume empties its list once q, k and v are quantised, so that their memory is free for the output. An error before
    that leaves the list whole; one after it costs the evaluation of the model, which is made once more: see
    guarded_run.evaluate. So the first call of a site and geometry, any outside of an evaluation, and all of a run after
    such an error run in one stage and keep q, k and v to the end.

    comfy_kitchen: the library, or what stands in for it.
    """

    def run(q, k, v, mask=None, scale=None):
        return comfy_kitchen.int8_attention(*aligned(q, k, v), scale=scale, attn_mask=rows_of(mask, q))

    def consume(tensors: list, mask=None, scale=None):
        mask = rows_of(mask, tensors[0])
        quantised = comfy_kitchen.prequantize_int8_attention(*aligned(*tensors), scale=scale, attn_mask=mask)
        tensors.clear()
        return comfy_kitchen.int8_attention_from_prequantized(quantised)

    if hasattr(comfy_kitchen, "prequantize_int8_attention"):
        run.consume = consume
    return run


def rows_of(mask, q):
    """Expand a mask's query axis to q's as a view; None without a mask.

    mask: (1|B, 1|H, 1|Lq, Lk), or None.
    q: (B, H, Lq, D).
    """
    return None if mask is None else mask.expand(-1, -1, q.shape[2], -1)


def aligned(*tensors):
    """Return the tensors as they are where each row is dense and starts on a step of four elements, else copies.

    The quantiser reads four at once and raises otherwise (https://github.com/Comfy-Org/ComfyUI/issues/15494).
    """
    return tuple(t if _in_fours(t) else t.clone(memory_format=torch.contiguous_format) for t in tensors)


def _in_fours(t) -> bool:
    steps = (t.data_ptr() // t.element_size(), *t.stride()[:3])
    return t.stride(-1) == 1 and not any(step % 4 for step in steps)


INT8 = Backend(
    name="comfy-kitchen int8",
    summary="INT8 attention that ComfyUI ships from 0.32 on. NVIDIA from Turing on and AMD RDNA3, masks included.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        masks=MASKS,
        exact=False,
        head_dims=range(1, 257),
        min_capability=(7, 5),
        max_batch=MAX_BLOCKS,
        grad=False,
        # Below about 2000 keys its launch costs more than it saves (comfy-kitchen pull request 104).
        useful_from=2048,
        # Its WMMA kernels (https://github.com/Comfy-Org/comfy-kitchen, comfy_kitchen/backends/hip/architectures.json).
        amd=RDNA,
    ),
    load=load_int8,
    scratch=lambda geometry: copies_of(geometry, 1, 1, 1),
)
