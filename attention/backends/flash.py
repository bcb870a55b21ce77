"""The FlashAttention packages. Dao, https://arxiv.org/abs/2307.08691; version 3: https://arxiv.org/abs/2407.08608.

torch carries FlashAttention 2 as well ("sdpa flash"); the packages are newer, and 3 and 4 are faster on Hopper and on.
torch.nn.attention.activate_flash_attention_impl would put 3 or 4 beneath torch's own operator, but it registers them in
the dispatcher for the whole process: every other model and thread would get them too, and lose them on restoring. So
the packages' own functions are called.
"""

from collections.abc import Callable

from ..core.error_handling import error_message
from ..core.kernel import Kernel
from ..core.reason import Reason
from .spec import EVERY_AMD, HALVES, MAX_BLOCKS, Backend, Limits, Unavailable


def load_2() -> Kernel:
    """Load FlashAttention 2."""
    try:
        from flash_attn import flash_attn_func
    except Exception as error:  # a build for another torch raises OSError or ImportError
        raise Unavailable(
            f"FlashAttention 2 cannot be imported ({error_message(error)}); `pip install flash-attn`"
        ) from error
    return kernel(flash_attn_func)


def load_3() -> Kernel:
    """Load FlashAttention 3."""
    try:
        from flash_attn_interface import flash_attn_func
    except Exception as error:
        raise Unavailable(
            f"FlashAttention 3 cannot be imported ({error_message(error)}); "
            "build it from the hopper folder of its repository"
        ) from error
    return kernel(flash_attn_func)


def load_4() -> Kernel:
    """Load FlashAttention 4."""
    try:
        from flash_attn.cute import flash_attn_func
    except Exception as error:
        raise Unavailable(
            f"FlashAttention 4 cannot be imported ({error_message(error)}); `pip install flash-attn-4`"
        ) from error
    return kernel(flash_attn_func)


def kernel(flash_attn_func: Callable) -> Kernel:
    """Make a Kernel of one of the packages' functions.

    flash_attn_func: works over (B, L, H, D). Versions 3 and 4 may return the log-sum-exp as well.
    """

    def run(q, k, v, mask=None, scale=None):
        out = flash_attn_func(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), softmax_scale=scale)
        return (out[0] if isinstance(out, tuple) else out).transpose(1, 2)

    return run


def _limits(min_capability, max_head_dim, amd=()):
    return Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=range(8, max_head_dim + 1),
        head_dim_multiple=8,
        masks=("none",),
        exact=True,
        min_capability=min_capability,
        max_batch=MAX_BLOCKS,
        amd=amd,
    )


# On AMD by Composable Kernel for MI200 and MI300 (https://github.com/Dao-AILab/flash-attention#amd-rocm-support), or by
# Triton for CDNA and RDNA (flash_attn/flash_attn_triton_amd/README.md there): whichever the package was built with.
FLASH_2 = Backend(
    "flash attention 2",
    "The flash-attn package: exact.",
    _limits((8, 0), 256, amd=EVERY_AMD),
    load_2,
    library="FlashAttention 2",
    install="pip install flash-attn",
)
FLASH_3 = Backend(
    "flash attention 3",
    "FlashAttention 3 for Hopper: exact.",
    _limits((9, 0), 256),
    load_3,
    lambda geometry: () if geometry.capability == (9, 0) else (Reason("made for compute capability 9.0 alone"),),
    besides="Hopper alone",
    library="FlashAttention 3",
    install="build it from the hopper folder of its repository",
)
FLASH_4 = Backend(
    "flash attention 4",
    "FlashAttention 4 for Hopper and Blackwell: exact.",
    _limits((9, 0), 128),
    load_4,
    library="FlashAttention 4",
    install="pip install flash-attn-4",
)
