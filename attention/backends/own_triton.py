"""This pack's own Triton kernel, backends/triton: INT8 scores, or 16-bit ones; key masks, ragged ends, GQA.

Compiled for NVIDIA and AMD, not measured on a GPU yet: `auto` takes it where Video Attention Benchmark has seen it
right; benchmarks/kernel.py measures it.

Memory beside q, k, v and the output, by counted bytes: INT8 copies of q and k, so that a call in 16 bit holds 1.26
times those four where heads are of 64 or 128; and where sums are float16 a copy of v, 1.51 times. 16-bit scores: none.
"""

from collections.abc import Iterator
from functools import partial

from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.reason import Reason
from .spec import HALVES, MAX_BLOCKS, POSITIVE, Backend, Limits, Unavailable, copies_of, row_sums
from .triton.tiling import AMD, AMD_FLOAT8, IN_SOFTWARE, has_row

# What torch 2.7.1 brings. Triton 3.3.0 does not compile for an RTX 50, and 3.2 ends the whole process there
# ("computeCapability not supported").
OLDEST_TRITON = (3, 3, 1)
HEAD_DIMS = range(8, 129)


def load(**how):
    """Load the kernel. Raises Unavailable where Triton is missing, broken or too old.

    how: as of launch.attention.
    """
    from .triton.device import compiled
    from .triton.launch import attention, triton_version

    try:
        import triton

        too_old = triton_version() < OLDEST_TRITON
        if not too_old:
            compiled()
    except Exception as error:  # a broken Triton raises anything from ImportError to OSError
        raise Unavailable(
            f"Triton cannot be imported ({error_message(error)}); `pip install triton`, on Windows triton-windows"
        ) from error
    if too_old:
        raise Unavailable(
            f"Triton {triton.__version__} is too old; 3.3.1 or newer is needed, since older ones fail on Blackwell: "
            "torch 2.7.1 or newer brings it, on Windows `pip install -U triton-windows`"
        )
    return partial(attention, **how)


def refused_on_amd(geometry: Geometry, quantized: bool, float8: bool = False) -> Iterator[Reason]:
    """Yield why an AMD GPU has no such kernel: one that spills registers, or converts in software, is not shipped.

    quantized: whether scores are INT8.
    float8: whether weights and values are.
    """
    size = geometry.head_dim
    if geometry.amd is not None and float8 and geometry.amd not in AMD_FLOAT8:
        software = geometry.amd in IN_SOFTWARE
        yield Reason(f"float8 is {'made in software on' if software else 'not multiplied by'} {geometry.amd}")
    if geometry.amd is not None and size in HEAD_DIMS and not has_row(geometry.amd, quantized, size):
        kind = "INT8" if quantized else "16-bit"
        yield Reason(f"{kind} scores with heads of {size} take more registers than {geometry.amd} has")


def scratch(geometry: Geometry, *, quantized: bool, float8: bool = False) -> int:
    """Count q and k in INT8, and v in float8 or, where sums are float16, a scaled copy: nothing for 16-bit scores."""
    wide = (64 if geometry.head_dim <= 64 else 128) / geometry.head_dim
    return copies_of(geometry, wide, wide, wide if float8 else 2) if quantized else row_sums(geometry)


def _row(
    name: str, summary: str, promise: float, since: tuple[int, int] = (8, 0), besides="", **how
) -> Backend:  # fmt: skip
    limits = Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=HEAD_DIMS,
        head_dim_multiple=8,
        masks=("none", "key"),
        exact=not how["quantized"],
        scale=POSITIVE,
        min_capability=since,
        max_batch=MAX_BLOCKS,
        grad=False,
        useful_from=1024,
        amd=tuple(AMD),
    )
    summary = f"{summary} `auto` takes it once Video Attention Benchmark has seen it right."
    asked = partial(refused_on_amd, **how)
    return Backend(
        name, summary, limits, partial(load, **how), asked, auto=False, promise=promise, besides=besides,
        scratch=partial(scratch, **how),
    )  # fmt: skip


INT8 = _row(
    "video attention int8",
    "This pack's own Triton kernel: INT8 scores, key masks.",
    promise=0.02,
    quantized=True,
)
HALF = _row(
    "video attention 16 bit",
    "The same kernel with 16-bit scores: exact.",
    promise=2e-3,
    besides="head sizes up to 64 on RDNA 3",
    quantized=False,
)
FLOAT8 = _row(
    "video attention float8",
    "The same kernel with INT8 scores and values in float8: coarser.",
    promise=0.04,
    since=(8, 9),
    besides="on AMD: MI300 and MI350 alone",
    quantized=True,
    float8=True,
)
