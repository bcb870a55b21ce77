"""SageAttention 3: FP4 attention for Blackwell. Zhang et al., https://arxiv.org/abs/2505.11594. Visibly lossy.

Its authors advise against it in the first and last steps: use it with a second Backend node for those.
"""

from collections.abc import Iterator

import torch

from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.kernel import Kernel
from ..core.reason import Reason
from ..core.tensor_layout import expand_kv
from .spec import DEFAULT, HALVES, MAX_BLOCKS, Backend, Limits, Unavailable, copies_of

# It keeps a float32 correction for every 128 queries and every key: 7 GB for 75600 tokens and 40 heads.
MAX_SCRATCH_BYTES = 4 * 2**30
QUERY_BLOCK = 128


def load() -> Kernel:
    """Load SageAttention 3."""
    try:
        from sageattn3 import sageattn3_blackwell
    except Exception as error:  # a broken build raises anything from ImportError to OSError
        raise Unavailable(
            f"SageAttention 3 cannot be imported ({error_message(error)}); build sageattn3 from source"
        ) from error

    def run(q, k, v, mask=None, scale=None):
        k, v = expand_kv(k, v, q.shape[1])
        # It subtracts the mean from the keys in place.
        return sageattn3_blackwell(
            q.contiguous(), k.clone(memory_format=torch.contiguous_format), v.contiguous(), is_causal=False
        )

    return run


def correction_bytes(geometry: Geometry) -> int:
    """Count the bytes of the correction that it keeps."""
    return int(geometry.batch * geometry.heads * (geometry.q_len / QUERY_BLOCK) * geometry.kv_len * 4)


def other_reasons(geometry: Geometry) -> Iterator[Reason]:
    """Yield why a call is too large for its scratch memory."""
    scratch = correction_bytes(geometry)
    if scratch > MAX_SCRATCH_BYTES:
        yield Reason(f"would need {scratch / 2**30:.1f} GiB of scratch memory")


SAGE3 = Backend(
    name="sage 3 fp4",
    summary="SageAttention 3 on NVIDIA Blackwell: FP4, fastest and visibly lossy. `auto` never takes it.",
    limits=Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=range(1, 256),
        masks=("none",),
        exact=False,
        scale=DEFAULT,
        min_capability=(12, 0),
        max_batch=MAX_BLOCKS,
        grad=False,
        useful_from=1024,
    ),
    load=load,
    other_reasons=other_reasons,
    scratch=lambda geometry: copies_of(geometry, 0.6, 2.6, 0.6) + correction_bytes(geometry),
    auto=False,
    besides="up to 4 GiB of scratch memory",
)
