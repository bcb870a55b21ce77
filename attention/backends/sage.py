"""SageAttention: INT8 Q K^T with smoothed keys. Zhang et al., https://arxiv.org/abs/2410.02367 and 2411.10958.

PyPI holds 1.0.6 (Triton) alone; 2.x is built from source, one kernel per architecture. They differ in what they get
wrong, so each has its own refusals here instead of a hope that `sageattn` checks: 1.x asserts, and 2.x swallows masks.
Neither is for AMD: not tested there, say its authors (https://github.com/thu-ml/SageAttention/issues/20), and Triton
fails on RDNA 4 with as many stages as its kernels ask for (pull request 365 there).
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.gpu import capability_of
from ..core.kernel import Kernel
from ..core.reason import Reason
from ..core.tensor_layout import dense_rows
from .spec import HALVES, MAX_BLOCKS, Backend, Limits, Unavailable, copies_of

HEAD_DIMS, V1_HEAD_DIMS = range(1, 129), (64, 96, 128)
# 1.0.6 counts the missing keys up to the next multiple of 64 as keys with score 0: at 77 keys it is off by 28 %.
V1_KEY_MULTIPLE = 64
# Compute capability -> function of SageAttention 2 and its settings, as its authors choose them.
V2_KERNELS = {
    (8, 0): ("sageattn_qk_int8_pv_fp16_cuda", {"pv_accum_dtype": "fp32"}),
    (8, 6): ("sageattn_qk_int8_pv_fp16_triton", {}),
    (8, 9): ("sageattn_qk_int8_pv_fp8_cuda", {"pv_accum_dtype": "fp32+fp16"}),
    (9, 0): ("sageattn_qk_int8_pv_fp8_cuda_sm90", {"pv_accum_dtype": "fp32+fp32"}),
    (12, 0): ("sageattn_qk_int8_pv_fp8_cuda", {"pv_accum_dtype": "fp32+fp16", "qk_quant_gran": "per_warp"}),
    (12, 1): ("sageattn_qk_int8_pv_fp8_cuda", {"pv_accum_dtype": "fp32+fp16", "qk_quant_gran": "per_warp"}),
}
# FP8 P V turns into noise on Blackwell above this (https://github.com/comfyanonymous/ComfyUI/issues/15263).
BLACKWELL_MAX_KEYS = 160_000


@cache
def major_version() -> int:
    """Return 1 or 2; 0 when SageAttention is not installed."""
    try:
        return int(version("sageattention").split(".")[0])
    except PackageNotFoundError:
        return 0


def load() -> Kernel:
    """Load SageAttention 1 or 2, whichever is installed."""
    if not major_version():
        raise Unavailable(
            "SageAttention is not installed; `pip install sageattention` (needs Triton and an NVIDIA GPU)"
        )
    try:
        import sageattention
    except Exception as error:  # a broken build raises anything from ImportError to OSError
        raise Unavailable(f"SageAttention cannot be imported ({error_message(error)})") from error
    return kernel_v1(sageattention.sageattn) if major_version() == 1 else kernel_v2(sageattention)


def kernel_v1(sageattn: Callable) -> Kernel:
    """Make a Kernel of 1.x.

    sageattn: its function. It subtracts the mean from the keys in place, so it gets its own.
    """

    def run(q, k, v, mask=None, scale=None):
        q, k, v = dense_rows(q, k, v)
        return sageattn(q, k.clone(), v, tensor_layout="HND", is_causal=False, sm_scale=scale)

    return run


def kernel_v2(sageattention: ModuleType) -> Kernel:
    """Make a Kernel of 2.x, of the function for the tensors' own GPU: `sageattn` itself drops masks in silence.

    sageattention: the library, or what stands in for it.
    """

    def run(q, k, v, mask=None, scale=None):
        name, settings = V2_KERNELS[capability_of(q.device)]
        q, k, v = dense_rows(q, k, v)
        attend = getattr(sageattention, name)
        return attend(q, k, v, tensor_layout="HND", is_causal=False, sm_scale=scale, **settings)

    return run


def other_reasons(geometry: Geometry) -> Iterator[Reason]:
    """Yield what SageAttention 1 or 2, whichever is installed, gets wrong or has no kernel for."""
    return _reasons_of_1(geometry) if major_version() == 1 else _reasons_of_2(geometry)


def _reasons_of_1(geometry: Geometry) -> Iterator[Reason]:
    if geometry.head_dim in HEAD_DIMS and geometry.head_dim not in V1_HEAD_DIMS:
        yield Reason(f"head size {geometry.head_dim}, SageAttention 1 takes 64, 96, 128")
    if geometry.kv_len % V1_KEY_MULTIPLE:
        yield Reason(
            f"key length {geometry.kv_len} is not a multiple of {V1_KEY_MULTIPLE}, which SageAttention 1 gets wrong"
        )
    if geometry.capability is not None and geometry.capability >= (12, 0):
        yield Reason("SageAttention 1 does not run on Blackwell")


def _reasons_of_2(geometry: Geometry) -> Iterator[Reason]:
    if geometry.capability not in V2_KERNELS:
        yield Reason(f"SageAttention 2 has no kernel for compute capability {geometry.capability}")
    elif geometry.capability >= (12, 0) and geometry.kv_len > BLACKWELL_MAX_KEYS:
        yield Reason(f"{geometry.kv_len} keys, noise above {BLACKWELL_MAX_KEYS} on this GPU")


def scratch(geometry: Geometry) -> int:
    """Count q and k in INT8, and v as the kernel of this GPU wants it: in float16, or turned and then in float8."""
    return copies_of(geometry, 1, 1, 2 if geometry.capability is None or geometry.capability < (8, 9) else 3)


SAGE = Backend(
    name="sage",
    summary="SageAttention 1 or 2, whichever is installed: INT8 scores, no masks.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=HEAD_DIMS,
        masks=("none",),
        exact=False,
        min_capability=(8, 0),
        max_batch=MAX_BLOCKS,
        grad=False,
        useful_from=1024,
    ),
    load=load,
    other_reasons=other_reasons,
    scratch=scratch,
    library="SageAttention",
    install="pip install sageattention",
    besides="1.x: head sizes 64, 96, 128, keys in steps of 64, not on Blackwell; 2.x: one kernel for each NVIDIA GPU",
)
