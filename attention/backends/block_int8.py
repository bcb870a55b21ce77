"""This pack's own Triton kernel, attention/triton: INT8 scores, or 16-bit ones; key masks, ragged ends, GQA.

Not measured on a GPU yet, so `auto` passes it by; benchmarks/kernel.py measures it.
"""

from functools import partial

import torch

from ..backend import HALVES, MAX_BLOCKS, Backend, Limits, Unavailable
from ..call import Call


def load(quantised: bool):
    from ..triton.device import compiled
    from ..triton.launch import attention

    try:
        compiled()
    except Exception as error:  # a broken Triton raises anything from ImportError to OSError
        raise Unavailable(
            f"Triton cannot be imported ({error}); `pip install triton`, on Windows triton-windows"
        ) from error
    return partial(attention, quantised=quantised)


def also_refuses(call: Call) -> str | None:
    if torch.version.hip:
        return "tried on NVIDIA alone"
    if call.scale is not None and not call.scale > 0:
        return f"scale {call.scale:g}, takes a positive one"
    return None


def _row(name: str, summary: str, quantised: bool) -> Backend:
    limits = Limits(
        devices=("cuda",),
        dtypes=HALVES,
        head_dims=range(8, 129),
        head_dim_multiple=8,
        masks=("none", "key"),
        min_capability=(8, 0),
        max_batch=MAX_BLOCKS,
        exact=not quantised,
        grad=False,
        useful_from=1024,
    )
    return Backend(name, summary, limits, partial(load, quantised), also_refuses, auto=False)


INT8 = _row(
    "video attention int8", "This pack's own Triton kernel: INT8 scores, key masks. `auto` never takes it.", True
)
HALF = _row("video attention 16 bit", "The same kernel with 16-bit scores: exact. `auto` never takes it.", False)
