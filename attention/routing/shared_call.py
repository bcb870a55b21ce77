"""Attention of a sequence that lies over several GPUs: each gets the whole of it and some of the heads.

Inside the router, so that what is below, every kernel, pattern, mask and strength, sees one whole call.
"""

from __future__ import annotations

import torch

from ..core.site import PEERS, site_of
from ..core.tensor_layout import from_heads
from ..core.tokens import BOTH, KEYS, SIDES
from ..parallel.peers import Broken, Share
from ..parallel.spread import cut_heads
from ..parallel.ulysses import gather_heads, gather_tokens, scatter_tokens
from .attention_call import AttentionCall
from .compiled_op import OPTIONS
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
    peers, spread, (q, k, v) = share.peers, share.spread, call.to_heads()
    if k.shape[2] != spread.local(peers.rank) or (side == BOTH and q.shape[2] != k.shape[2]):
        raise Broken(
            f"{site.role}-attention of {q.shape[2]} x {k.shape[2]} tokens in block {site.block}, where this GPU has "
            f"{spread.local(peers.rank)}: another node changed the tokens"
        )
    heads, key_heads = cut_heads(q.shape[1], k.shape[1], peers.weights)
    mask = call.to_mask()
    if mask is not None and mask.shape[1] > 1:
        mask = mask.split(heads, 1)[peers.rank]
    k, v = (gather_tokens(x, spread, peers, key_heads) for x in (k, v))
    q = gather_tokens(q, spread, peers, heads) if side == BOTH else q.split(heads, 1)[peers.rank]
    context = call.options[CONTEXT]
    # Some packs attend with a part of a module's heads at a time.
    first = (context.stats or router.stats).chunks.of(site, call.heads, router) or 0
    whole = call.but(
        q=q, k=k, v=v, heads=heads[peers.rank], mask=mask, split_in=True, split_out=True,
        first_head=first + sum(heads[: peers.rank]), kw={**call.kw, OPTIONS: {**call.options, PEERS: peers}},
    )  # fmt: skip
    out = router.answer(whole)
    out = scatter_tokens(out, spread, peers, heads) if side == BOTH else gather_heads(out, peers, heads)
    peers.calls, peers.heads = peers.calls + 1, call.heads
    return from_heads(out, call.split_out)
