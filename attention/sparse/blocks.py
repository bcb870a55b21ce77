"""Patterns whose mask follows from q and k: the chosen key blocks of each head are gathered for torch's attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..grid import CUBE
from ..operators import sdpa
from ..patterns.blocks import KEYS, QUERIES, MassBlocks, TopBlocks, arrange, pool, select
from .engine import Engine, Task, joined, scratch_bytes
from .held import at_once


@dataclass(frozen=True, eq=False)
class Plan:
    """permutation, inverse: to the pattern's order and back; None: the tokens stand in it."""

    pattern: object
    permutation: torch.Tensor | None
    inverse: torch.Tensor | None


def refuses(task: Task, call) -> str | None:
    return None if isinstance(task.pattern, (TopBlocks, MassBlocks)) else "the mask is fixed"


def plan(task: Task, device, dtype) -> Plan:
    if (task.order, task.tile) == (task.pattern.order, CUBE):
        return Plan(task.pattern, None, None)
    permutation = task.positions(arrange(task.pattern, task.grid)[0]).to(device)
    return Plan(task.pattern, permutation, permutation.argsort())


def run(video, sinks, scale, plan: Plan, hold=at_once) -> torch.Tensor:
    batch, heads, tokens, dim = video[0].shape
    if plan.permutation is not None:
        video = tuple(t.index_select(2, plan.permutation) for t in video)
    seen = hold(lambda: select(plan.pattern, *video[:2], scale))
    # Keys of all queries: the means of the blocks, hidden where the block itself is seen, then the sinks.
    fixed, lengths = sinks, None
    if plan.pattern.tail:
        lengths = pool(video[1], KEYS)[1].log()
        fixed = tuple(torch.cat([pool(t, KEYS)[0].to(t.dtype), s], dim=2) for t, s in zip(video[1:], sinks))
    fixed = tuple(t.flatten(0, 1) for t in fixed)
    q, k, v = (blocks(t, size) for t, size in zip(video, (QUERIES, KEYS, KEYS)))
    out = torch.empty_like(q)
    for rows, keys, hidden in chunks(seen, tokens, dim, fixed[0].shape[1], q):
        head = rows // seen.shape[2]
        picked = (t.index_select(0, keys.flatten()).view(len(rows), -1, dim) for t in (k, v))
        some_k, some_v = (joined(t, s[head])[:, None] for t, s in zip(picked, fixed))
        bias = additive(hidden, lengths, seen.flatten(0, 2)[rows], some_k.shape[2], q.dtype)
        out[rows] = sdpa(q[rows, None], some_k, some_v, bias, scale=scale)[:, 0]
    out = out.view(batch, heads, -1, dim)[:, :, :tokens]
    return out if plan.inverse is None else out.index_select(2, plan.inverse)


def blocks(x: torch.Tensor, size: int) -> torch.Tensor:
    """(B, H, N, D) as (B * H * n, size, D), filled up with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % size)).reshape(-1, size, x.shape[3])


def additive(hidden, lengths, seen, keys: int, dtype: torch.dtype) -> torch.Tensor | None:
    """What is added to the scores, (n, 1, 1, keys); None: nothing.

    hidden: (n, K) bool, of the picked keys; lengths: (nk,), the logarithm of how many tokens a block's mean stands for,
    None without a tail; seen: (n, nk) bool.
    """
    if lengths is None and not hidden.any():
        return None
    bias = torch.zeros(len(hidden), 1, 1, keys, dtype=dtype, device=hidden.device)
    picked = hidden.shape[1]
    bias[:, 0, 0, :picked].masked_fill_(hidden, -torch.inf)
    if lengths is not None:
        bias[:, 0, 0, picked : picked + len(lengths)] = lengths.masked_fill(seen, -torch.inf)
    return bias


def chunks(seen: torch.Tensor, tokens: int, dim: int, fixed: int, q: torch.Tensor):
    """(rows, key blocks, hidden) for blocks of queries with about as many key blocks each, within scratch_bytes.

    seen: (B, H, nq, nk); fixed: keys that all have. rows: (n,) of B * H * nq; key blocks: (n, most), of B * H * nk;
    hidden: (n, most * KEYS) bool, the keys that fill up.
    """
    nq, nk = seen.shape[2:]
    seen = seen.flatten(0, 2)
    number, first = seen.sum(1), (~seen).to(torch.uint8).argsort(dim=1, stable=True)
    rows = number.argsort(descending=True, stable=True)
    counts = number[rows].tolist()
    start = 0
    while start < len(counts):
        most = counts[start]
        one = (4 * (most * KEYS + fixed) + 3 * QUERIES) * dim * q.element_size()
        stop = min(len(counts), start + max(1, scratch_bytes(q.device) // one))
        some = rows[start:stop]
        picked = first[some, :most]
        # A block that fills up stands after the ones that are seen; a ragged block ends before it is full.
        length = (tokens - picked * KEYS).clamp(max=KEYS)
        length = length * (torch.arange(most, device=q.device) < number[some, None])
        hidden = (torch.arange(KEYS, device=q.device) >= length[..., None]).flatten(1)
        yield some, picked + (some // nq * nk)[:, None], hidden
        start = stop


BLOCKS = Engine(
    "blocks", "Gathers the chosen key blocks of each head. Exact, on every device.", refuses, plan, run, chooses=True
)
