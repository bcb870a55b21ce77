"""Patterns whose mask follows from q and k: the selected key blocks of each head, gathered for torch's attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..core.geometry import Geometry
from ..core.grid import RASTER
from ..core.reason import Reason
from ..core.torch_sdpa import sdpa
from ..patterns.blocks import KEYS, QUERIES, block_order, pool, select_blocks, select_sample
from ..patterns.spec import BlockPattern, is_fixed
from .cached_blocks import select_anew
from .engine import Engine, HostMask, Task, append_context, as_bias, scratch_bytes
from .single_tokens import Singles


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """What `run` needs.

    permutation: (N,), of keys to the pattern's order; None: the tokens stand in it.
    queries: (M,), of the call's queries to that order; None likewise.
    inverse: (M,), back; None likewise.
    own: (nq, nk) bool, the blocks of keys that queries of a block are among; None: as of all queries.
    """

    pattern: BlockPattern
    permutation: torch.Tensor | None = None
    queries: torch.Tensor | None = None
    inverse: torch.Tensor | None = None
    own: torch.Tensor | None = None


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse patterns with a fixed mask, and single tokens under a mask of the host's."""
    if is_fixed(task.pattern):
        return Reason("the mask is fixed")
    masked = task.pattern.singles and geometry.mask != "none"
    return Reason("finds no single tokens under a mask") if masked else None


def plan(task: Task, device, dtype) -> EnginePlan:
    """Make the permutations to the pattern's order, in which those queries that the call has make blocks."""
    pattern, own, (first, last) = task.pattern, None, task.video_span.cut
    permutation = block_order(pattern, task.grid)[0]
    at = ((permutation >= first) & (permutation < last)).nonzero().flatten()
    if not task.all_queries:
        own = own_blocks(at, task.tokens).to(device)
    if pattern.order == RASTER:
        return EnginePlan(pattern, own=own)
    queries = (permutation[at] - first).to(device)
    return EnginePlan(pattern, block_order(pattern, task.grid, device)[0], queries, queries.argsort(), own)


def own_blocks(at: torch.Tensor, tokens: int) -> torch.Tensor:
    """Tell which blocks of keys the queries of each block are among: (nq, nk) bool.

    at: (M,), where the queries stand in the pattern's order, ascending.
    tokens: N.
    """
    own = torch.zeros(-(-len(at) // QUERIES), -(-tokens // KEYS), dtype=torch.bool)
    own[torch.arange(len(at)) // QUERIES, at // KEYS] = True
    return own


def run(video, context_kv, scale, plan: EnginePlan, cache=select_anew, mask: HostMask | None = None) -> torch.Tensor:
    """Attend from each block of queries to the gathered blocks that it sees; see Engine.run."""
    (batch, heads, number, dim), tokens = video[0].shape, video[1].shape[2]
    orders = (plan.queries, plan.permutation, plan.permutation)
    video = [t if order is None else t.index_select(2, order) for t, order in zip(video, orders)]
    seen = selected(cache, plan.pattern, *video[:2], scale, plan.own)
    singles = Singles(plan.pattern.singles, *video[:2], seen, scale) if plan.pattern.singles else None
    # Keys of all queries: the means of the blocks, hidden where the block itself is seen, then the context.
    fixed, lengths = context_kv, None
    if plan.pattern.tail:
        means, lengths = block_means(video[1:], plan, mask)
        fixed = tuple(torch.cat([mean.to(s.dtype), s], dim=2) for mean, s in zip(means, context_kv))
    fixed = tuple(t.flatten(0, 1) for t in fixed)
    # One by one: what is in blocks need not stay as it was.
    q, k, v = (into_blocks(video.pop(0), size) for size in (QUERIES, KEYS, KEYS))
    out = torch.empty_like(q)
    for rows, keys, hidden in chunks(seen, tokens, dim, fixed[0].shape[1] + plan.pattern.singles, q, mask):
        head = rows // seen.shape[2]
        gathered = [t.index_select(0, keys.flatten()).view(len(rows), -1, dim) for t in (k, v)]
        weight = lengths if lengths is None or lengths.ndim == 1 else lengths[head]
        if singles is not None:
            gathered = [torch.cat([t, singles.keys(rows, s)], 1) for t, s in zip(gathered, (k, v))]
            hidden = torch.cat([hidden, singles.hidden(rows)], 1)
            weight = None if weight is None else singles.weights(rows, weight)
        some_k, some_v = (append_context(t, s[head])[:, None] for t, s in zip(gathered, fixed))
        bias = pattern_bias(hidden, weight, seen.flatten(0, 2)[rows], some_k.shape[2], q.dtype)
        if mask is not None:
            own = host_bias(mask, plan, (rows % seen.shape[2], keys % seen.shape[3]), (head // heads, head % heads), q)
            means = own.new_zeros(*own.shape[:3], 0 if lengths is None else seen.shape[3])
            own = torch.cat([own[..., : hidden.shape[1]], means, own[..., hidden.shape[1] :]], dim=-1)
            bias = own if bias is None else own + bias
        out[rows] = sdpa(q[rows, None], some_k, some_v, bias, scale=scale)[:, 0]
    del q, k, v
    out = out.view(batch, heads, -1, dim)[:, :, :number]
    return out if plan.inverse is None else out.index_select(2, plan.inverse)


def selected(cache, *what) -> torch.Tensor:
    """Give the selected blocks, (B, H, nq, nk) bool, as the cache has them; what: as of select_blocks."""
    return cache(lambda: select_blocks(*what), lambda: select_sample(*what))


def block_means(kv, plan: EnginePlan, mask: HostMask | None):
    """Take the means of the blocks of keys and of values, (B, H, nk, D), and the logarithm of what each one weighs.

    That is (nk,), or (B * H, nk) with a mask: a key that it weighs less is less of its block.
    kv: (k, v), each (B, H, N, D), in the pattern's order.
    mask: the same for all queries.
    """
    if mask is None:
        (keys, lengths), (values, _) = (pool(t, KEYS) for t in kv)
        return (keys, values), lengths.log()
    weights = as_bias(mask.video[:, :, 0], torch.float32).exp()
    weights = (weights if plan.permutation is None else weights.index_select(2, plan.permutation))[..., None]
    share, lengths = pool(weights, KEYS)
    means = tuple(pool(t * weights, KEYS)[0] / share.clamp(min=torch.finfo(share.dtype).tiny) for t in kv)
    weighed = (share[..., 0] * lengths).log().expand(*kv[0].shape[:2], -1)
    return means, weighed.flatten(0, 1)


def host_bias(mask: HostMask, plan: EnginePlan, blocks_of, heads, q) -> torch.Tensor:
    """Give what a mask adds to the scores of gathered keys and context tokens: (n, 1, 1|QUERIES, most * KEYS + S).

    blocks_of: ((n,), (n, most)), numbers of the blocks of queries and keys.
    heads: as of HostMask.bias_of.
    """
    at = []
    sides = ((QUERIES, mask.rows, plan.queries), (KEYS, mask.video.shape[3], plan.permutation))
    for block, (size, tokens, order) in zip(blocks_of, sides):
        index = block.view(len(block), 1, -1, 1) * size + torch.arange(size, device=block.device)
        index = index.flatten(2).clamp(max=tokens - 1)  # what fills up a ragged block is hidden or left out
        at.append(index if order is None else order[index])
    return mask.bias_of(heads, *at, q.dtype)


def into_blocks(x: torch.Tensor, size: int) -> torch.Tensor:
    """Cut (B, H, N, D) into (B * H * n, size, D), filled up with zeros."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % size)).reshape(-1, size, x.shape[3])


def pattern_bias(hidden, lengths, seen, keys: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Give what the pattern adds to the scores, (n, 1, 1, keys); None: nothing.

    hidden: (n, K) bool, of the gathered keys.
    lengths: (nk,) or (n, nk), the logarithm of how many tokens a block's mean stands for; None without a tail.
    seen: (n, nk) bool, the selected blocks.
    """
    if lengths is None and not hidden.any():
        return None
    bias = torch.zeros(len(hidden), 1, 1, keys, dtype=dtype, device=hidden.device)
    gathered = hidden.shape[1]
    bias[:, 0, 0, :gathered].masked_fill_(hidden, -torch.inf)
    if lengths is not None:
        bias[:, 0, 0, gathered : gathered + lengths.shape[-1]] = lengths.masked_fill(seen, -torch.inf)
    return bias


def chunks(seen: torch.Tensor, tokens: int, dim: int, fixed: int, q: torch.Tensor, mask: HostMask | None = None):
    """Cut the blocks of queries into (rows, key blocks, hidden), about as many key blocks each, within scratch_bytes.

    Rows are (n,), of B * H * nq; key blocks (n, most), of B * H * nk; hidden (n, most * KEYS) bool, keys that fill up.

    seen: (B, H, nq, nk) bool, the selected blocks.
    fixed: how many keys all have.
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
        if mask is not None:
            one += 3 * min(mask.rows, QUERIES) * (most * KEYS + fixed) * q.element_size()
        stop = min(len(counts), start + max(1, scratch_bytes(q.device, q.numel() * q.element_size()) // one))
        some = rows[start:stop]
        gathered = first[some, :most]
        # A block that fills up stands after the ones that are seen; a ragged block ends before it is full.
        length = (tokens - gathered * KEYS).clamp(max=KEYS)
        length = length * (torch.arange(most, device=q.device) < number[some, None])
        hidden = (torch.arange(KEYS, device=q.device) >= length[..., None]).flatten(1)
        yield some, gathered + (some // nq * nk)[:, None], hidden
        start = stop


GATHER_BLOCKS = Engine(
    "blocks", "Gathers the chosen key blocks of each head. Exact, on every device.", refuses, plan, run,
    selects_blocks=True, masks=True, partial_queries=True, copies=5,
)  # fmt: skip
