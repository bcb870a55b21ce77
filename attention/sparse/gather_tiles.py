"""Any fixed pattern: boxes of queries, each with just the keys that it needs, gathered and run by torch's attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from ..core.geometry import Geometry
from ..core.grid import TILE, order, order_on
from ..core.interruption import check_interrupt
from ..core.reason import Reason
from ..core.torch_sdpa import sdpa
from ..patterns.spec import Relation, relation_of
from ..patterns.tiles import Tile, mask_in
from .engine import Engine, HostMask, Task, append_context, scratch_bytes
from .tile_layout import Layout, layout, share_mask


@dataclass(frozen=True, eq=False)
class BoxGroup:
    """Boxes of queries of equal size, and with equally many keys.

    queries: (n, m), positions in the call.
    keys: (n, K / run), in units of `run` tokens.
    bias: (1, 1, m, K + S) of 0 and -inf, one for all boxes; None: no mask, or one to be made in the call.
    unmasked: the tiles whose masks are made in the call; empty: none.
    raster: (n, K), raster indices of their keys.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    bias: torch.Tensor | None = None
    unmasked: tuple[Tile, ...] = ()
    raster: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class EnginePlan:
    """What `run` needs.

    permutation: (N,), of keys and values, so that whole runs of tokens are gathered; None: as they stand.
    run: as of Layout.
    groups: all boxes.
    relation: as of Layout, for tensors on the device.
    """

    permutation: torch.Tensor | None
    run: int
    groups: tuple[BoxGroup, ...]
    relation: Relation


def refuses(task: Task, geometry: Geometry) -> Reason | None:
    """Refuse patterns whose mask follows from the tensors."""
    return Reason("the mask follows from the tensors") if relation_of(task.pattern, task.grid) is None else None


def plan(task: Task, device: torch.device, dtype: torch.dtype) -> EnginePlan:
    """Put the boxes that are alike into groups, and their masks on the device."""
    found = layout(task.pattern, task.grid)
    to, back = order(task.grid, TILE, found.tile)
    alike: dict[tuple, list[Tile]] = {}
    for tile in found.tiles if task.all_queries else cut_to_queries(task, found.tiles):
        alike.setdefault((len(tile.queries), len(tile.keys), tile.full, id(tile.seen)), []).append(tile)
    groups = tuple(box_group(task, found, tiles, back, device, dtype) for tiles in alike.values())
    moved = found.run > 1 and not to.equal(torch.arange(task.tokens))
    there = order_on(device, task.grid, TILE, found.tile)[0] if moved else None
    return EnginePlan(there, found.run, groups, found.relation.to(device))


def cut_to_queries(task: Task, tiles: Iterable[Tile]) -> Iterator[Tile]:
    """Cut tiles down to those of their queries that the call has."""
    (first, last), masks = task.video_span.cut, {}
    for tile in tiles:
        some = (tile.queries >= first) & (tile.queries < last)
        if some.any():
            seen = None if tile.seen is None else tile.seen[some]
            yield share_mask(replace(tile, queries=tile.queries[some], seen=seen, rows=some), masks)


def box_group(task: Task, found: Layout, tiles: list[Tile], back, device, dtype) -> BoxGroup:
    """Make the group of some alike tiles.

    back: the permutation into the order in which keys are gathered.
    """
    check_interrupt()
    queries, keys = (torch.stack([getattr(t, name) for t in tiles]).long() for name in ("queries", "keys"))
    units = back[keys][:, :: found.run] // found.run if found.run > 1 else keys
    bias, unmasked, raster, seen = None, (), None, tiles[0].seen
    if seen is not None:
        bias = mask_bias(seen[None, None].to(device), task.context_tokens, dtype)
    elif not tiles[0].full:
        # The boxes and rows alone: what else the tiles hold would be held twice.
        unmasked = tuple(replace(tile, queries=tile.queries[:0], keys=tile.keys[:0]) for tile in tiles)
        raster = keys.int().to(device)
    at = queries - task.video_span.cut[0]
    return BoxGroup(at.to(device), units.int().to(device), bias, unmasked, raster)


def mask_bias(seen: torch.Tensor, context_tokens: int, dtype: torch.dtype) -> torch.Tensor:
    """Turn (..., m, K) bool into 0 and -inf, followed by `context_tokens` columns of 0."""
    bias = torch.zeros(*seen.shape[:-1], seen.shape[-1] + context_tokens, dtype=dtype, device=seen.device)
    bias[..., : seen.shape[-1]].masked_fill_(~seen, -torch.inf)
    return bias


def run(video, context_kv, scale, plan: EnginePlan, mask: HostMask | None = None) -> torch.Tensor:
    """Attend group by group to gathered keys; see Engine.run."""
    (batch, heads, number, dim), tokens, context_tokens = video[0].shape, video[1].shape[2], context_kv[0].shape[2]
    q, k, v = (t.flatten(0, 1) for t in video)
    context_kv = tuple(s.flatten(0, 1) for s in context_kv)
    if plan.permutation is not None:
        k, v = (t.index_select(1, plan.permutation) for t in (k, v))
    k, v = (t.contiguous().view(batch * heads, tokens // plan.run, plan.run * dim) for t in (k, v))
    out = q.new_empty(batch * heads, number, dim)
    for group in plan.groups:
        known = None
        for rows, members in chunks(group, batch * heads, dim, plan.run, context_tokens, q, mask):
            queries, keys = group.queries[members], group.keys[members]
            if known is None or known[0] != members:
                known = members, pattern_bias(plan, group, members, context_tokens, q)
            bias = known[1]
            if mask is not None:
                heads_of = torch.arange(rows.start, min(rows.stop, len(q)), device=q.device)
                positions = token_positions(plan, keys)
                own = mask.bias_of((heads_of // heads, heads_of % heads), queries, positions, q.dtype)
                bias = own if bias is None else own + bias
            attend(q[rows], k[rows], v[rows], tuple(s[rows] for s in context_kv), scale, bias, queries, keys, out[rows])
    return out.unflatten(0, (batch, heads))


def chunks(
    group: BoxGroup, rows: int, dim: int, run: int, context_tokens: int, q: torch.Tensor, mask: HostMask | None = None
):
    """Cut a group into (slice of heads, slice of boxes) whose gathered tensors stay within scratch_bytes.

    rows: batch entries times heads.
    """
    n, m = group.queries.shape
    keys = group.keys.shape[1] * run
    copies = 4 if context_tokens else 2
    one = (copies * (keys + context_tokens) + 3 * m) * dim * q.element_size()
    seen = m * (keys + context_tokens) * q.element_size() * 2
    shared = seen if group.unmasked or mask is not None else 0
    if mask is not None and mask.video.shape[0] * mask.video.shape[1] > 1:
        one += seen if mask.rows > 1 or group.unmasked or group.bias is not None else seen // m
    budget = scratch_bytes(q.device, q.numel() * q.element_size())
    heads = max(1, min(rows, (budget - shared) // one))
    boxes_each = max(1, min(n, budget // (one * heads + shared)))
    for a in range(0, n, boxes_each):
        for b in range(0, rows, heads):
            yield slice(b, b + heads), slice(a, a + boxes_each)


def pattern_bias(
    plan: EnginePlan, group: BoxGroup, members: slice, context_tokens: int, q: torch.Tensor
) -> torch.Tensor | None:
    """Give what the pattern adds to the scores of some boxes of a group, (1, n|1, m, K + S); None: nothing."""
    if not group.unmasked:
        return group.bias
    found = []
    for tile, keys in zip(group.unmasked[members], group.raster[members]):
        seen = mask_in(plan.relation, tile.box, keys)
        found.append(seen if tile.rows is None else seen[tile.rows.to(seen.device)])
    return mask_bias(torch.stack(found)[None], context_tokens, q.dtype)


def token_positions(plan: EnginePlan, keys: torch.Tensor) -> torch.Tensor:
    """Find where in the call the tokens of gathered units stand, from the video's first: (n, K / run) -> (n, K)."""
    keys = (keys[..., None] * plan.run + torch.arange(plan.run, device=keys.device)).flatten(-2)
    return keys.long() if plan.permutation is None else plan.permutation[keys.long()]


def attend(q, k, v, context_kv, scale, bias, queries, keys, out) -> None:
    """Attend from some boxes of a group for some heads, into `out`.

    q: (R, M, D), R of batch times heads.
    k: (R, N / run, run * D).
    v: (R, N / run, run * D).
    context_kv: (k, v), each (R, S, D).
    out: (R, M, D), which is written to.
    """
    (n, m), dim = queries.shape, q.shape[-1]
    one = q.index_select(1, queries.flatten()).unflatten(1, (n, m))
    k, v = (t.index_select(1, keys.flatten()).view(len(q), n, -1, dim) for t in (k, v))
    k, v = (append_context(t, s.unsqueeze(1)) for t, s in zip((k, v), context_kv))
    result = sdpa(one, k, v, attn_mask=bias, scale=scale)
    out.index_copy_(1, queries.flatten(), result.flatten(1, 2))


GATHER_TILES = Engine(
    "tiles", "Gathers the keys of each tile. Exact, on every device.", refuses, plan, run,
    masks=True, partial_queries=True, copies=3,
)  # fmt: skip
