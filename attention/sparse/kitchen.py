"""Sparse kernels of comfy-kitchen, which ComfyUI installs: found by asking, never required.

na3d: neighbourhood attention, exact. sol_attn: top blocks and adaptive blocks in INT8, head size 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from inspect import signature
from math import ceil

import torch
import torch.nn.functional as F

from ..backends.spec import HALVES, RDNA, other_amd
from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.reason import Reason
from ..patterns.adaptive import AdaptiveBlocks
from ..patterns.blocks import TopBlocks, block_order
from ..patterns.neighbourhood import Neighbourhood
from .engine import Engine, Task

BLOCK, HEAD_DIM = 64, 128
# The most that sol_attn takes.
SINGLES = 256


@cache
def load(name: str):
    """Find comfy-kitchen's function `name`, or say why there is none."""
    try:
        import comfy_kitchen

        found = getattr(comfy_kitchen, name, None)
        if found is None:
            return Reason(f"this comfy-kitchen has no {name}; update ComfyUI")
        available = getattr(comfy_kitchen, f"{name}_is_available", None)
        return found if available is None or available() else Reason(f"comfy-kitchen's {name} cannot run on this GPU")
    except Exception as error:  # a build for another driver raises anything, at its import or when it is asked
        return Reason(f"comfy-kitchen's {name} cannot be loaded ({error_message(error)})")


def missing(name: str, geometry: Geometry) -> Reason | None:
    """Say what is missing of what both kernels ask for."""
    found = load(name)
    if isinstance(found, Reason):
        return found
    if geometry.device != "cuda":
        return Reason(f"needs cuda, the tensors are on {geometry.device}")
    # On AMD both are WMMA kernels (https://github.com/Comfy-Org/comfy-kitchen, comfy_kitchen/backends/hip).
    if (reason := other_amd(geometry, RDNA)) is not None:
        return reason
    if geometry.dtype not in HALVES:
        return Reason(f"dtype {str(geometry.dtype).removeprefix('torch.')}, takes float16, bfloat16")
    return None


def na3d_refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse all but neighbourhood attention of a video alone."""
    if not isinstance(task.pattern, Neighbourhood):
        return Reason("runs neighbourhood attention alone")
    if task.context_tokens:
        return Reason("takes no tokens outside the video")
    if geometry.head_dim % 16 or geometry.head_dim > 128:
        return Reason(f"head size {geometry.head_dim}, takes 16 to 128 in steps of 16")
    return missing("na3d", geometry)


def na3d_plan(task: Task, device, dtype):
    """Give the grid and the window in tokens."""
    return task.grid, task.pattern.window(task.grid)


def na3d_run(video, context_kv, scale, plan) -> torch.Tensor:
    """Attend by na3d; see Engine.run."""
    grid, window = plan
    q, k, v = (t.transpose(1, 2).unflatten(1, grid).contiguous() for t in video)
    return load("na3d")(q, k, v, list(window), scale=scale).flatten(1, 3).transpose(1, 2)


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """What `sol_run` needs.

    permutation: (N,), of the video's tokens to the pattern's order.
    inverse: (N,), back.
    """

    pattern: TopBlocks | AdaptiveBlocks
    permutation: torch.Tensor
    inverse: torch.Tensor


def sol_refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse all but top blocks and adaptive blocks, and what sol_attn cannot take."""
    if not isinstance(task.pattern, (TopBlocks, AdaptiveBlocks)):
        return Reason("runs top blocks and adaptive blocks alone")
    if task.pattern.by_heads:
        return Reason("keeps one percentage for all heads")
    if isinstance(task.pattern, TopBlocks) and not 0 < task.pattern.keep < 100:
        return Reason(f"keeps {task.pattern.keep:g} percent, takes more than 0 and less than 100")
    if task.pattern.singles % 64 or task.pattern.singles > SINGLES:
        return Reason(f"{task.pattern.singles} single tokens, takes a multiple of 64 up to {SINGLES}")
    if geometry.head_dim not in (64, HEAD_DIM):
        return Reason(f"head size {geometry.head_dim}, takes 64, {HEAD_DIM}")
    if geometry.capability is not None and geometry.capability < (8, 0):
        return Reason("needs compute capability 8.0")
    why = missing("sol_attn", geometry)
    if why is None and task.pattern.singles and not single_tokens(load("sol_attn"), task.pattern.singles):
        return Reason("this comfy-kitchen's sol_attn sees no single tokens; update ComfyUI")
    return why


def sol_plan(task: Task, device, dtype) -> EnginePlan:
    """Make the permutation to the pattern's order."""
    return EnginePlan(task.pattern, *block_order(task.pattern, task.grid, device))


def sol_run(video, context_kv, scale, plan: EnginePlan) -> torch.Tensor:
    """Run sol_attn with the context tokens as what the library calls sinks.

    They stand in front, filled up to whole blocks with keys that a bias hides: a bias is allowed in them alone. Every
    token sees them exactly (`sink_blocks`). Rows that see all exactly (`sink_q`) are not asked for: context tokens are
    no queries here, their rows are computed elsewhere, exactly.
    """
    q, k, v = (t.index_select(2, plan.permutation) for t in video)
    number, dim = context_kv[0].shape[2], q.shape[3]
    fill = -number % BLOCK
    # Their own rows are computed elsewhere, exactly: any query will do here.
    q = torch.cat([q.new_zeros(*q.shape[:2], number + fill, dim), q], dim=2)
    k, v = (torch.cat([F.pad(s, (0, 0, 0, fill)), t], dim=2) for s, t in zip(context_kv, (k, v)))
    bias = None
    if fill:
        bias = q.new_zeros(1, 1, 1, k.shape[2])
        bias[..., number : number + fill] = -torch.inf
    # A head of 64 is filled up with zeros: the scores are the same, so the scale has to be too.
    scale = dim**-0.5 if scale is None else scale
    q, k, v = (F.pad(t, (0, HEAD_DIM - dim)).transpose(1, 2).contiguous() for t in (q, k, v))
    blocks = [0, (number + fill) // BLOCK] if number else None
    routed = routing(plan.pattern, ceil(video[0].shape[2] / BLOCK))
    run = load("sol_attn")
    routed |= single_tokens(run, plan.pattern.singles)
    out = run(q, k, v, scale=scale, sink_blocks=blocks, key_bias=bias, tail=plan.pattern.tail, **routed)
    return out[:, number + fill :, :, :dim].transpose(1, 2).index_select(2, plan.inverse)


def routing(pattern, blocks: int) -> dict:
    """Give sol_attn's arguments that select among so many key blocks of the video, its sinks aside."""
    if isinstance(pattern, AdaptiveBlocks):
        return {"tau": pattern.tau}
    # It rounds the number of blocks, and never keeps all of them by a share: by a threshold below every score it does.
    number = pattern.number(blocks)
    return {"topk_ratio": number / blocks} if number < blocks else {"tau": -1e4}


@cache
def single_tokens(run, number: int) -> dict:
    """Give sol_attn's `token_aug` where it has one: the pattern's singles; without any, as its own default says.

    Its blocks of queries have 64 tokens. It takes whole bins of a histogram of the scores, so that it may see fewer,
    and with a tail it weighs the tokens left over one by one. The library's reference code ignores all of it (0.2.40,
    backends/eager/sol_attn.py), so what it costs and gains shows on a GPU alone, and has not been measured.
    """
    found = signature(run).parameters.get("token_aug")
    return {} if found is None else {found.name: number or found.default}


NA3D = Engine("comfy-kitchen na3d", "Neighbourhood attention. Exact.", na3d_refuses, na3d_plan, na3d_run, copies=5)
SOL = Engine(
    "comfy-kitchen sol_attn", "Top blocks and adaptive blocks in INT8. Approximate.", sol_refuses, sol_plan, sol_run,
    exact=False, copies=14,
)  # fmt: skip
