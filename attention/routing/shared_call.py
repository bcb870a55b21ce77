"""Attention of a sequence that lies over several GPUs: each gets the whole of it and some of the heads, or, where a
pattern makes that less, all heads and the keys that its own queries may see. More GPUs than heads trade them in groups,
and the groups trade keys.

Inside the router, so that what is below, every kernel, pattern, mask and strength, sees one whole call:
all but what goes around or fetches, which is decided there too.
"""

from __future__ import annotations

import torch

from ..core.query_parts import QueryParts
from ..core.site import PEERS, site_of
from ..core.tensor_layout import from_heads
from ..core.tokens import BOTH, KEYS, SIDES
from ..parallel.peers import Broken, Share
from ..parallel.ring import KEYS as GATHERED
from ..parallel.ring import Ring, ring_of
from ..parallel.spread import cut_heads
from ..parallel.ulysses import begin_gather, begin_scatter, gather_heads, gather_tokens, slices_of
from .attention_call import AttentionCall
from .compiled_op import OPTIONS
from .halo_call import answer_by_halo
from .ring_call import answer_group
from .shared_reuse import reuse_of
from .step_context import CONTEXT, StepContext


def answer_shared(router, call: AttentionCall, context: StepContext) -> torch.Tensor:
    """Answer an open call of one rank as a whole one of `router`.

    context: of the call, with its Share.
    Raises Broken where the call cannot be told or does not fit what the ranks share.
    """
    share, context = context.share, context.but(share=None)
    call = call.but(kw={**call.kw, OPTIONS: {**call.options, CONTEXT: context}})
    site = site_of(call.options)
    if site is None or site.roles:
        raise Broken("an attention call does not tell which module makes it, so that its tokens cannot be found")
    side = SIDES.get(site.role)
    if side in (BOTH, KEYS):
        return _exchanged(router, call, share, site, side)
    # Queries of another rank do not matter to these, and every rank has all keys.
    mask = call.to_mask()
    if side is not None and mask is not None and mask.shape[2] == share.spread.length > 1:
        call = call.but(mask=share.spread.part(mask, share.peers.rank, 2))
    return router.answer(call)


def _exchanged(router, call: AttentionCall, share: Share, site, side: str) -> torch.Tensor:
    """Answer a call whose keys, and with BOTH whose queries too, lie over the ranks."""
    peers, spread, (q, k, _) = share.peers, share.spread, call.to_heads()
    if k.shape[2] != spread.local(peers.rank) or (side == BOTH and q.shape[2] != k.shape[2]):
        raise Broken(
            f"{site.role}-attention of {q.shape[2]} x {k.shape[2]} tokens in block {site.block}, where this GPU has "
            f"{spread.local(peers.rank)}: another node changed the tokens"
        )
    # Some packs attend with a part of a module's heads at a time.
    first = (call.options[CONTEXT].stats or router.stats).chunks.of(site, call.heads, router) or 0
    told = call.but(mask=call.mask.told) if isinstance(call.mask, QueryParts) else call
    peers.calls, reuse = peers.calls + 1, reuse_of(router, told, share, site, first)
    out = None if reuse is None else reuse.given(told, share)
    if out is not None:
        return out
    out = answer_by_halo(router, call, share, site) if side == BOTH else None
    if out is None:
        # Once for all slices of the heads.
        masked = call if isinstance(call.mask, QueryParts) else call.but(mask=call.to_mask())
        ring = ring_of(share, k.shape[1])
        out = (_trade_all if side == BOTH else _trade_keys)(router, masked, ring, first)
        if ring.groups > 1:
            peers.rounds[ring.way] += 1
    out = from_heads(out, call.split_out)
    if reuse is not None:
        reuse.keep(out, told)
    return out


def _trade_all(router, call: AttentionCall, ring: Ring, first: int) -> torch.Tensor:
    """Attend where queries and keys lie over the ranks, (B, H, local tokens, D): while one slice of the heads is
    computed, the next is on its way, and the last one on its way back.

    first: number of the call's first head.
    """
    peers, near, spread, tensors = ring.share.peers, ring.near, ring.near_spread, call.to_heads()
    heads, key_heads = cut_heads(tensors[0].shape[1], tensors[1].shape[1], near.weights)
    group = sum(heads) // sum(key_heads)
    # Enhance takes its mean over all heads of a call.
    whole = any(rule.kind == "strength" for rule in router.rules)
    slices, waiting, outs = slices_of(heads, group, 1 if whole else peers.slices), [], []
    peers.parts, peers.heads = len(slices), heads
    for some in (*slices, None):
        mine = [wait() for wait in waiting]
        waiting = [] if some is None else _begin(tensors, some, group, ring)
        if mine:
            out = answer_group(router, _part(call, mine, slices[len(outs)][near.rank], first, peers), ring)
            outs.append(begin_scatter(out, spread, near, slices[len(outs)]))
    came = [wait() for wait in outs]
    return torch.cat([parts[rank] for rank in range(near.size) for parts in came], 1)


def _begin(tensors, some: tuple[slice, ...], group: int, ring: Ring) -> list:
    """Begin to trade for one slice of the heads: three functions that wait for q, k and v."""
    keys = tuple(slice(each.start // group, each.stop // group) for each in some)
    return [begin_gather(x, ring.near_spread, ring.near, h) for x, h in zip(tensors, (some, keys, keys), strict=True)]


def _trade_keys(router, call: AttentionCall, ring: Ring, first: int) -> torch.Tensor:
    """Attend from queries that every rank has to keys that lie over them: (B, H, queries, D)."""
    peers, near, (q, k, v) = ring.share.peers, ring.near, call.to_heads()
    heads, key_heads = cut_heads(q.shape[1], k.shape[1], near.weights)
    ((some,), (keys,)) = slices_of(heads, 1, 1), slices_of(key_heads, 1, 1)
    k, v = (gather_tokens(x, ring.near_spread, near, keys) for x in (k, v))
    if ring.groups > 1:
        before, ring.way = peers.sent, GATHERED
        k, v = ring.whole(k), ring.whole(v)
        peers.carried[GATHERED] += peers.sent - before
    own, peers.heads = some[near.rank], heads
    return gather_heads(router.answer(_part(call, (q[:, own], k, v), own, first, peers)), near, some)


def _part(call: AttentionCall, tensors, own: slice, first: int, peers) -> AttentionCall:
    """Make the call of some of the heads, all tokens in it."""
    (q, k, v), mask = tensors, call.mask
    if isinstance(mask, torch.Tensor) and mask.shape[1] > 1:
        mask = mask[:, own]
    return call.but(
        q=q, k=k, v=v, heads=own.stop - own.start, mask=mask, split_in=True, split_out=True,
        first_head=first + own.start, kw={**call.kw, OPTIONS: {**call.options, PEERS: peers}},
    )  # fmt: skip
