"""FlexAttention with a BlockMask. Dong et al., https://arxiv.org/abs/2412.05496.

Compiled alone: uncompiled FlexAttention holds the whole score matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange

from ..backends.spec import FLOATS
from ..core.error_handling import error_message
from ..core.geometry import Geometry
from ..core.grid import TILE, order_on
from ..core.interruption import check_interrupt
from ..core.peak_memory import unseen
from ..core.reason import Reason
from ..patterns.spec import relation_of
from .engine import Engine, Task

BLOCK = 128
# 128 tokens that are near to each other: the block that FlexAttention skips by.
NEAR = (2, 8, 8)


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """What `run` needs.

    permutation: (N,), of the video's tokens to blocks of NEAR ones.
    inverse: (N,), back.
    mask: the BlockMask.
    """

    permutation: torch.Tensor
    inverse: torch.Tensor
    mask: object


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse what FlexAttention cannot compile here, and patterns without a fixed mask."""
    if relation_of(task.pattern, task.grid) is None:
        return Reason("the mask follows from the tensors")
    if geometry.device != "cuda" and not (geometry.device == "cpu" and task.compile_on_cpu):
        return Reason(f"compiles for CUDA, the tensors are on {geometry.device}")
    if geometry.capability is not None and geometry.capability < (8, 0):
        return Reason("needs compute capability 8.0")
    if geometry.dtype not in FLOATS[:3]:
        return Reason(f"dtype {str(geometry.dtype).removeprefix('torch.')}, takes float16, bfloat16, float32")
    if geometry.head_dim < 16:
        return Reason(f"head size {geometry.head_dim}, takes 16 and more")
    found = compiled()
    return found if isinstance(found, Reason) else None


@cache
def compiled():
    """Give flex_attention, compiled for each shape, or say why there is none."""
    try:
        from torch.nn.attention.flex_attention import flex_attention

        return torch.compile(flex_attention, dynamic=False)
    except Exception as error:  # the compiler imports Triton, and a broken one raises anything
        return Reason(f"FlexAttention cannot be loaded ({error_message(error)}); use torch 2.5 or later")


def plan(task: Task, device, dtype) -> EnginePlan:
    """Make the BlockMask over blocks of near tokens, the context behind them."""
    permutation, inverse = order_on(device, task.grid, TILE, NEAR)
    relation, tokens = relation_of(task.pattern, task.grid).to(device), task.tokens

    def mask_mod(b, h, q_idx, kv_idx):
        query, key = permutation[q_idx], permutation[kv_idx.clamp(max=tokens - 1)]
        return relation.mask_mod(b, h, query, key) | (kv_idx >= tokens)

    mask = block_mask(mask_mod, tokens, tokens + task.context_tokens, device)
    return EnginePlan(permutation, inverse, mask)


def block_mask(mask_mod, q_len: int, kv_len: int, device):
    """Make the BlockMask of a mask_mod, BLOCK queries at a time: torch's own create_block_mask holds q_len x kv_len."""
    from torch.nn.attention.flex_attention import BlockMask

    key, partial, full = torch.arange(kv_len, device=device), [], []
    for start in range(0, q_len, BLOCK):
        check_interrupt()
        query = torch.arange(start, min(start + BLOCK, q_len), device=device)
        seen = mask_mod(0, 0, query[:, None], key[None, :])
        some = filled(seen, False).any(2).any(0)
        every = filled(seen, True).all(2).all(0)
        # A ragged block of queries counts as partial: FlexAttention does not look at the rows that are missing.
        full.append(every)
        partial.append(some & ~every)
    (partial_count, partial_index), (full_count, full_index) = map(listed, (partial, full))
    return BlockMask.from_kv_blocks(
        partial_count, partial_index, full_count, full_index,
        BLOCK_SIZE=BLOCK, mask_mod=mask_mod, seq_lengths=(q_len, kv_len),
    )  # fmt: skip


def filled(seen: torch.Tensor, value: bool) -> torch.Tensor:
    """Cut (m, K) into (m, K / BLOCK, BLOCK), the last block filled up with `value`."""
    return rearrange(F.pad(seen, (0, -seen.shape[1] % BLOCK), value=value), "m (c k) -> m c k", k=BLOCK)


def listed(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Count the flags set in each row, (1, 1, R), and list which they are, first in each row, (1, 1, R, C); int32."""
    flags = torch.stack(rows)[None, None]
    index = (~flags).to(torch.uint8).argsort(dim=-1, stable=True)
    return flags.sum(-1).to(torch.int32), index.to(torch.int32)


def run(video, context_kv, scale, plan: EnginePlan) -> torch.Tensor:
    """Attend by compiled FlexAttention; see Engine.run."""
    q, k, v = (t.index_select(2, plan.permutation) for t in video)
    k, v = (torch.cat([t, s], dim=2) for t, s in zip((k, v), context_kv))
    with unseen():
        out = compiled()(q, k, v, block_mask=plan.mask, scale=scale)
    return out.index_select(2, plan.inverse)


FLEX = Engine("flex", "torch's compiled FlexAttention. Exact; compiles for each shape.", refuses, plan, run, copies=7)
