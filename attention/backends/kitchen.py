"""INT8 attention of comfy-kitchen, the kernel library that ComfyUI installs.

Q K^T and P V both run in INT8 after a block-Hadamard rotation; the softmax stays in float32. Measured error about
0.014 relative L2 (https://github.com/Comfy-Org/comfy-kitchen/pull/104).
"""

from ..backend import HALVES, Backend, Limits, Unavailable
from ..layout import dense_rows


def load_int8():
    try:
        import comfy_kitchen
    except ImportError as error:
        raise Unavailable(f"comfy-kitchen cannot be imported ({error}); update ComfyUI") from error
    # ComfyUI 0.30 pins 0.2.26, which has no attention at all: ask, never assume.
    if not hasattr(comfy_kitchen, "int8_attention"):
        raise Unavailable(
            "this comfy-kitchen has no int8_attention; it needs comfy-kitchen 0.2.30 (ComfyUI 0.32) or later"
        )
    if not comfy_kitchen.int8_attention_is_available():
        raise Unavailable(
            "comfy-kitchen's INT8 attention needs an NVIDIA GPU from Turing on, or an AMD GPU from RDNA3 on"
        )
    attend = comfy_kitchen.int8_attention

    def run(q, k, v, mask=None, scale=None):
        if mask is not None:
            mask = mask.expand(-1, -1, q.shape[2], -1)
        return attend(*dense_rows(q, k, v), scale=scale, attn_mask=mask)

    return run


INT8 = Backend(
    name="comfy-kitchen int8",
    summary="INT8 attention that ComfyUI ships from 0.32 on. NVIDIA from Turing on and AMD RDNA3, masks included.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=range(1, 257),
        min_capability=(7, 5),
        exact=False,
        grad=False,
        # Below about 2000 keys its launch costs more than it saves (comfy-kitchen pull request 104).
        useful_from=2048,
    ),
    load=load_int8,
)
