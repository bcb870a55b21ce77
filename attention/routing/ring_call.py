"""Calls of one group's queries to the keys of all groups, where there are more GPUs than heads.

Keys go around a ring where the kernel that is wanted is one of torch's that gives the log-sum-exp by which parts are
joined, and takes the call. Else they are gathered before the call, for any kernel, and for what says why one cannot
run; and all queries too, which every group then computes, for what looks at a call as a whole. Decided by the rules,
which are the same on all ranks, and then by all together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from ..backends import registry, sdpa
from ..core.error_handling import error_text, free_frames, is_out_of_memory
from ..core.geometry import Geometry, describe
from ..core.query_parts import QueryParts
from ..core.reason import Reason
from ..core.reference import relative_l2
from ..core.site import site_of
from ..core.tensor_layout import dense_rows, expand_kv
from ..core.tokens import VideoSpan
from ..parallel.ring import ALL, AROUND, KEYS, Ring, Seen, written_out
from .attention_call import AttentionCall
from .decide import perturbing
from .halo_call import count_call
from .host_kernel import name_of, own_function
from .rules import GUARD_EVERY, GUARD_FIRST, Rule, winner
from .run_stats import Decision
from .step_context import CONTEXT, StepContext, locate, rules_of

_aten = torch.ops.aten
# Backends by whose kernels keys can go around, and ComfyUI's own name for torch's attention.
TORCH = frozenset(row.name for row in (sdpa.AUTO, sdpa.FLASH, sdpa.EFFICIENT))
PYTORCH, WRITTEN_OUT = "pytorch", "written out"
# Of a made-up call: beyond what 16 bit cost.
NEAR_ENOUGH = 2e-2


def answer_group(router, call: AttentionCall, ring: Ring) -> torch.Tensor:
    """Answer an open call of some heads: (B, H, group's tokens, D).

    call: q, k and v of the group's tokens, (B, H, tokens, D), a mask of the whole sequence, or QueryParts of it; knows
        its first head.
    """
    if ring.groups == 1:
        return _in_parts(router, call)
    context: StepContext = call.options[CONTEXT]
    stats, peers, site = context.stats or router.stats, ring.share.peers, site_of(call.options)
    key = (
        router, site, context, ring, call.q.shape, call.k.shape, call.q.dtype, call.q.device, call.first_head,
        type(call.mask), call.precision, call.kw.get("scale"), _trains(call),
    )  # fmt: skip
    if key not in stats.rings:
        stats.rings[key] = *_decide(router, call, ring, context), True
    ring.way, decision, first = stats.rings[key]
    before = peers.sent
    if ring.way == AROUND:
        out = _around(call, ring, decision.rule, first)
        peers.carried[AROUND] += peers.sent - before
        if not first or peers.all_of(_is_fit(out, decision, stats)):
            stats.rings[key] = AROUND, decision, False
            stats.join((router, site), call.first_head, decision)
            count_call(stats, key, decision, call.options)
            return out
        # The router looks at that call more closely, and says what came of it.
        ring.way, before = KEYS, peers.sent
        stats.rings[key] = KEYS, None, False
    q, k, v = call.q, ring.whole(call.k), ring.whole(call.v)
    if ring.way == ALL:
        q = ring.whole(q)
        peers.carried[ALL] += peers.sent - before
        return ring.mine(_in_parts(router, call.but(q=q, k=k, v=v)), 2)
    peers.carried[KEYS] += peers.sent - before
    if not q.shape[2]:
        return q
    mask = call.mask if call.mask is None or call.mask.shape[2] == 1 else ring.mine(call.mask, 2)
    return router.answer(call.but(k=k, v=v, mask=mask))


def _in_parts(router, call: AttentionCall) -> torch.Tensor:
    """Answer a call of all queries, in parts where its mask says so, as the host would: (B, H, queries, D)."""
    if not isinstance(call.mask, QueryParts):
        return router.answer(call)
    exact = {**call.kw, "low_precision_attention": False}
    return call.mask.each(
        lambda first, last, mask: router.answer(
            call.but(q=call.q[:, :, first:last], mask=mask, kw=call.kw if mask is None else exact)
        )
    )


def _trains(call: AttentionCall) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in (call.q, call.k, call.v))


def _decide(router, call: AttentionCall, ring: Ring, context: StepContext) -> tuple[str, Decision | None]:
    """Decide in which way all ranks get the other groups' keys, and who counts calls that go around."""
    length, peers = ring.far_spread.length, ring.share.peers
    site, span = locate(call.options, length, length)
    covers = rules_of(router, context, site)
    rule = winner(covers, "")
    way = _way(router, call, covers, context, length)
    if not peers.all_of(way != ALL):
        return ALL, None
    if not peers.all_of(way == AROUND):
        return KEYS, None
    (attend, _), part = _attention_of(call, rule), span
    if isinstance(span, VideoSpan) and not span.start:
        first = ring.far_spread.start(ring.far.rank)
        part = replace(span, part=(first, first + call.q.shape[2]))
    used, wanted = f"{attend} (ring)", None if rule is None else rule.backend
    decision = Decision(site, _geometry(call, length), rule, wanted, used, part)
    decision.guard = rule is not None and rule.backend != registry.HOST and rule.guard == GUARD_FIRST
    return AROUND, decision


def _geometry(call: AttentionCall, length: int) -> Geometry:
    """Describe a call as it is with the keys of all groups.

    length: of the sequence.
    """
    low = call.kw.get("low_precision_attention") is not False
    found = describe(call.q, call.k, call.v, call.mask, scale=call.kw.get("scale"), low_precision=low)
    return replace(found, kv_len=length)


def _way(router, call: AttentionCall, covers: list, context: StepContext, length: int) -> str:
    strengths = [rule.strength for rule in covers if rule.kind == "strength"]
    shaped = winner(covers, "shape") is not None or any(strength.cross_frame for strength in strengths)
    if shaped or isinstance(call.mask, QueryParts) or perturbing(covers, context.perturbation) is not None:
        return ALL
    rule, named, wide = winner(covers, ""), own_function(call.options), call.precision not in (None, call.q.dtype)
    if rule is None or rule.backend == registry.HOST:
        torchs = router.previous is None and named is None and name_of(call.func) == PYTORCH
    else:
        torchs = rule.backend in TORCH and not rule.memory and rule.guard != GUARD_EVERY
    plain = not (strengths or router.timing or wide or _trains(call))
    if torchs and plain and _can_go_around(call, rule, length):
        return AROUND
    # What else may stand in the slot, or in the model's file, may look at a call as a whole.
    return KEYS if router.previous is None and named is None else ALL


def _can_go_around(call: AttentionCall, rule: Rule | None, length: int) -> bool:
    """Tell whether parts of a call can be attended by what is wanted, and no slower than the whole of it."""
    name, _ = _attention_of(call, rule)
    if name == WRITTEN_OUT and call.q.device.type != "cpu":
        return False
    if rule is None or rule.backend == registry.HOST:
        return True
    return rule.backend in (sdpa.AUTO.name, name) and registry.why_not(rule.backend, _geometry(call, length)) is None


def _around(call: AttentionCall, ring: Ring, rule: Rule | None, first: bool) -> torch.Tensor | Reason:
    """Attend to each group's keys as they come by: (B, H, queries, D).

    first: whether it is the first call of its kind, of which all ranks tell each other what came of it. Where the
        kernel raises then, the keys go on to the others, who wait for them, and why it did is returned.
    """
    seen, failed = Seen(call.q), None
    for group, k, v in ring.steps(call.k, call.v):
        # torch's kernel for the CPU divides by the number of either, which ends the process.
        if failed is None and k.shape[2] and call.q.shape[2]:
            try:
                _attend(call, ring, rule, group, k, v, seen)
            except Exception as error:
                # Memory that is missing tells nothing of the kernel.
                if not first or is_out_of_memory(error):
                    raise
                failed = Reason(error_text(error))
                free_frames(error)
    return seen.out.to(call.q.dtype) if failed is None else failed


def _attend(call: AttentionCall, ring: Ring, rule: Rule | None, group: int, k, v, seen: Seen) -> None:
    _, attend = _attention_of(call, rule)
    k, v = expand_kv(k, v, call.heads)
    some = None if call.mask is None else ring.keys_of(call.mask, group)
    if some is not None and some.shape[2] > 1:
        some = ring.mine(some, 2)
    seen.add(*attend(call.q, k, v, some, call.kw.get("scale")))


def _is_fit(out: torch.Tensor | Reason, decision: Decision, stats) -> bool:
    """Tell whether a first output can be handed on, and note why there is none."""
    if isinstance(out, Reason):
        stats.notes.append(f"Keys could not go around on one of the GPUs, and are gathered instead: {out}.")
        return False
    return not decision.guard or bool(torch.isfinite(out).all())


def _flash_cpu(q, k, v, mask, scale):
    q, k, v = dense_rows(q, k, v)
    bias = sdpa.additive(mask, q)
    return _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=bias, scale=scale)


def _flash(q, k, v, mask, scale):
    if mask is not None:
        raise NotImplementedError
    return _aten._scaled_dot_product_flash_attention(*dense_rows(q, k, v), 0.0, False, False, scale=scale)[:2]


def _efficient(q, k, v, mask, scale):
    bias = sdpa.aligned(sdpa.additive(mask, q), q, k)
    out, lse, *_ = _aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, 0.0, False, scale=scale)
    # It comes in whole blocks of queries.
    return out, lse[..., : q.shape[2]]


FUSED = {
    "cpu": {sdpa.FLASH.name: _flash_cpu},
    "cuda": {sdpa.FLASH.name: _flash, sdpa.EFFICIENT.name: _efficient},
}


def _seeing(attend):
    """Make a kernel say of queries that a mask lets see nothing that they saw nothing: theirs differ in that."""

    def run(q, k, v, mask=None, scale=None):
        out, lse = attend(q, k, v, mask, scale)
        if mask is not None:
            blind = (~mask if mask.dtype == torch.bool else mask == -torch.inf).all(-1)
            out, lse = out.masked_fill(blind[..., None], 0.0), lse.masked_fill(blind, -torch.inf)
        return out, lse

    return run


def _attention_of(call: AttentionCall, rule: Rule | None):
    """Find what gives a call's attention with its log-sum-exp here: (name, (q, k, v, mask, scale) -> both).

    rule: that names one of torch's kernels, to try alone; any other: they are tried in turn.
    """
    named = rule.backend if rule is not None and rule.backend in TORCH - {sdpa.AUTO.name} else ""
    return _attention(call.q.device, call.q.dtype, call.q.shape[-1], call.mask is not None, named)


@cache
def _attention(device: torch.device, dtype: torch.dtype, dim: int, masked: bool, named: str = "") -> tuple:
    # What raises is asked again.
    for name, attend in FUSED.get(device.type, {}).items():
        attend = _seeing(attend)
        if named in ("", name) and _is_right(attend, device, dtype, dim, masked):
            return name, attend
    return WRITTEN_OUT, written_out


def _is_right(attend, device: torch.device, dtype: torch.dtype, dim: int, masked: bool) -> bool:
    """Tell by a small made-up call whether a kernel runs here, and gives the log-sum-exp that is meant.

    Raises what says that memory was missing: that tells nothing of the kernel.
    """
    wave = torch.arange(3 * 2 * 40 * dim, device=device, dtype=torch.float32).mul_(0.7).sin_().mul_(2).to(dtype)
    q, k, v = wave.view(3, 1, 2, 40, dim).unbind()
    mask = torch.ones(1, 1, 33, 40, dtype=torch.bool, device=device).tril(-1) if masked else None
    try:
        found = attend(q[:, :, :33], k, v, mask, None)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False
    true = written_out(q[:, :, :33], k, v, mask)
    seen = [(~torch.isinf(lse), lse.masked_fill(torch.isinf(lse), 0.0)) for _, lse in (found, true)]
    errors = relative_l2(found[0], true[0]), relative_l2(seen[0][1], seen[1][1])
    return torch.equal(seen[0][0], seen[1][0]) and max(errors) < NEAR_ENOUGH
