"""xFormers memory-efficient attention, https://github.com/facebookresearch/xformers."""

import torch

from ..core.error_handling import error_message
from ..core.kernel import Kernel
from .spec import CDNA, HALVES, MAX_BLOCKS, Backend, Limits, Unavailable


def load() -> Kernel:
    """Load xFormers."""
    try:
        from xformers.ops import memory_efficient_attention
    except Exception as error:  # a build for another torch raises OSError or ImportError
        raise Unavailable(
            f"xFormers cannot be imported ({error_message(error)}); `pip install xformers` for your torch"
        ) from error

    def run(q, k, v, mask=None, scale=None):
        out = memory_efficient_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), scale=scale)
        return out.transpose(1, 2)

    return run


XFORMERS = Backend(
    name="xformers",
    summary="xFormers' memory-efficient attention: exact.",
    limits=Limits(
        devices=("cuda",),
        dtypes=(*HALVES, torch.float32),
        head_dims=range(8, 257),
        head_dim_multiple=8,
        # Its dense bias must be aligned by hand and is slow: torch's own kernels take masks.
        masks=("none",),
        exact=True,
        gqa=False,
        min_capability=(7, 0),
        max_batch_heads=MAX_BLOCKS,
        # Composable Kernel's, for Instinct alone: https://github.com/ROCm/xformers/issues/83.
        amd=CDNA,
    ),
    load=load,
    library="xFormers",
    install="pip install xformers for your torch",
)
