"""SageAttention: INT8 Q K^T with smoothed keys. Zhang et al., https://arxiv.org/abs/2410.02367.

PyPI holds 1.0.6 (Triton) alone; 2.x is built from source. They differ in what they get wrong, so each has its row of
refusals here instead of a hope that `sageattn` checks: it asserts, or swallows what it does not know.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from ..backend import HALVES, Backend, Limits, Unavailable
from ..call import Call

V1_HEAD_DIMS = (64, 96, 128)
# 1.0.6 counts the missing keys up to the next multiple of 64 as keys with score 0: at 77 keys it is off by 28 %.
V1_KEY_MULTIPLE = 64


@cache
def major_version() -> int:
    """1 or 2; 0 when SageAttention is not installed."""
    try:
        return int(version("sageattention").split(".")[0])
    except PackageNotFoundError:
        return 0


def load():
    if not major_version():
        raise Unavailable(
            "SageAttention is not installed; `pip install sageattention` (needs Triton and an NVIDIA GPU)"
        )
    try:
        from sageattention import sageattn
    except Exception as error:  # a broken build raises anything from ImportError to OSError
        raise Unavailable(f"SageAttention cannot be imported ({error})") from error
    return kernel(sageattn, copy_k=major_version() == 1)


def kernel(sageattn, copy_k: bool):
    """`sageattn` as a Kernel. copy_k: 1.0.6 subtracts the mean from the caller's own keys."""

    def run(q, k, v, mask=None, scale=None):
        q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
        return sageattn(q, k.clone() if copy_k else k, v, tensor_layout="HND", is_causal=False, sm_scale=scale)

    return run


def also_refuses(call: Call) -> str | None:
    if major_version() != 1:
        return None
    if call.head_dim not in V1_HEAD_DIMS:
        return f"head size {call.head_dim}, SageAttention 1 takes 64, 96, 128"
    if call.kv_len % V1_KEY_MULTIPLE:
        return f"key length {call.kv_len} is not a multiple of {V1_KEY_MULTIPLE}, which SageAttention 1 gets wrong"
    return None


SAGE = Backend(
    name="sage",
    summary="SageAttention 1 or 2, whichever is installed: INT8 scores, no masks.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=range(1, 129),
        masks=("none",),
        min_capability=(8, 0),
        exact=False,
        grad=False,
        useful_from=1024,
    ),
    load=load,
    also_refuses=also_refuses,
)
