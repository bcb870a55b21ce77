"""FlexAttention, torch's compiled attention. He et al., https://arxiv.org/abs/2412.05496."""

from collections.abc import Iterator

import torch

from ..core.allocation_record import record_paused
from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.kernel import Kernel
from ..core.peak_memory import unseen
from ..core.reason import Reason
from .spec import EVERY_AMD, FLOATS, MAX_BLOCKS, Backend, Limits, Unavailable, row_sums, scores_of

CPU_MAX_SCORES = 2**31
# Shapes, dtypes, devices and scales that were called before.
COMPILED_FOR: set[tuple] = set()


def load() -> Kernel:
    """Load FlexAttention: compiled on CUDA, as it is elsewhere."""
    try:
        from torch.nn.attention.flex_attention import flex_attention

        compiled = torch.compile(flex_attention, dynamic=False)
    except Exception as error:  # the compiler imports Triton, and a broken one raises anything
        raise Unavailable(f"FlexAttention cannot be loaded ({error_message(error)}); use torch 2.5 or later") from error

    def run(q, k, v, mask=None, scale=None):
        attend = compiled if q.device.type == "cuda" else flex_attention
        how = {"scale": scale, "enable_gqa": k.shape[1] != q.shape[1]}
        shapes = (q.shape, k.shape, q.dtype, q.device, scale)
        if shapes not in COMPILED_FOR:
            # What compiling tries out is no part of a step.
            with record_paused(), unseen():
                attend(q, k, v, **how)
            COMPILED_FOR.add(shapes)
        with unseen():
            return attend(q, k, v, **how)

    return run


def other_reasons(geometry: Geometry) -> Iterator[Reason]:
    """Yield why the CPU's own code, which holds all scores, is out."""
    if geometry.device == "cpu" and geometry.batch * geometry.heads * geometry.q_len * geometry.kv_len > CPU_MAX_SCORES:
        yield Reason("would hold the whole score matrix on the CPU")


def scratch(geometry: Geometry) -> int:
    """Count a number for each query where it is compiled, and the scores and the softmax on a CPU."""
    return 3 * scores_of(geometry) if geometry.device == "cpu" else row_sums(geometry)


FLEX = Backend(
    name="flex",
    summary="torch FlexAttention without a mask: exact. Compiles for each shape on CUDA; slow and plain elsewhere.",
    limits=Limits(
        devices=("cuda", "cpu"),
        dtypes=FLOATS[:3],
        masks=("none",),
        exact=True,
        min_capability=(8, 0),
        max_batch_heads=MAX_BLOCKS,
        grad=False,
        amd=EVERY_AMD,
    ),
    load=load,
    other_reasons=other_reasons,
    auto=False,
    scratch=scratch,
    besides="8 GiB of scores on a CPU",
)
