"""Calls over several GPUs whose pattern lets each fetch only the keys that its queries may see.

Chosen where that is fewer bytes than trading heads, and always where there are more GPUs than heads. Decided by what is
the same on all ranks, and then by all together: a call that one of them cannot run so is traded whole by all, and so is
every later one of its kind.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import prod

import torch

from ..core.error_handling import error_text, free_frames
from ..core.geometry import Geometry, describe
from ..core.reason import Reason
from ..core.site import CALLER
from ..core.tokens import BOTH, Grid, VideoSpan
from ..parallel.estimate import rows_traded
from ..parallel.halo import Halo
from ..parallel.peers import Share
from ..parallel.ring import ring_of
from ..parallel.spread import Spread, cut_heads
from ..patterns.spec import Pattern, parts_of, relation_of, turns_of
from ..sparse.engine_registry import AUTO, runners
from ..sparse.frame_slices import FRAME_SLICES
from ..sparse.runner import Runner
from .attention_call import AttentionCall
from .choose import choose_engine
from .chunking import budgeted
from .decide import perturbing
from .guarded_run import NOT_FINITE
from .rules import GUARD_EVERY, GUARD_OFF, Rule, winner
from .run_stats import Decision, RunStats
from .step_context import CONTEXT, StepContext, rules_of


class HaloCall:
    """How the calls of one site and geometry run.

    halo: what each rank fetches.
    decision: counts them.
    able: what runs the pattern on this rank's queries, best first.
    """

    def __init__(self, halo: Halo, decision: Decision, able: tuple[Runner, ...]):
        self.halo, self.decision, self._able = halo, decision, able

    def run(self, call: AttentionCall, share: Share, stats: RunStats) -> torch.Tensor | None:
        """Fetch, and attend from this rank's queries: (B, H, local tokens, D); None where the kernel failed."""
        q, k, v = call.to_heads()
        k, v = (self.halo.fetch(x, share.peers) for x in (k, v))
        call, decision = call.but(q=q, k=k, v=v, split_in=True, split_out=True), self.decision
        try:
            first = decision.kernel is None
            if first:
                runner = choose_engine(call, decision, self._able, stats)
                decision.used, decision.kernel = f"{decision.rule.shape.label} ({runner.label})", runner.kernel
            out = call.run(decision.kernel)
            if first and decision.rule.guard != GUARD_OFF and not torch.isfinite(out).all():
                raise ValueError(NOT_FINITE)
            return out
        except Exception as error:
            stats.notes.append(f"{decision.used} could not run on a part of the queries: {error_text(error)}.")
            free_frames(error)
        return None


def answer_by_halo(router, call: AttentionCall, share: Share, site) -> torch.Tensor | None:
    """Answer an open call of one rank, (B, H, local tokens, D); None where heads are to be traded. On all ranks alike.

    site: of the call, a self-attention.
    """
    context: StepContext = call.options[CONTEXT]
    if not share.peers.fetches or call.mask is not None or call.heads < site.heads:
        return None
    stats, q, k = context.stats or router.stats, call.q, call.k
    key = (router, site, context, share, q.shape, k.shape, q.dtype, q.device, call.precision, call.kw.get("scale"))
    if key not in stats.halos:
        stats.halos[key] = _decide(router, call, share, site, context)
    found = stats.halos[key]
    if found is None:
        return None
    out = found.run(call, share, stats)
    if not share.peers.all_of(out is not None):
        stats.halos[key] = None
        return None
    count_call(stats, key, found.decision, call.options)
    share.peers.halos += 1
    return out


def count_call(stats: RunStats, key: tuple, decision: Decision, options) -> None:
    """Count a call that no router answered as the router does: with the others of its site, and for its module.

    options: of the call.
    """
    stats.decisions.setdefault(key, decision).calls += 1
    caller = options.get(CALLER)
    if caller is not None:
        # A call that nobody notes is one that ran past it.
        caller.routed += 1


def _decide(router, call: AttentionCall, share: Share, site, context: StepContext) -> HaloCall | None:
    rule, spread, peers = _rule(router, site, context), share.spread, share.peers
    span = None if rule is None or context.tokens is None else _video_alone(context.tokens, site, spread)
    # A rank may be so slow that it gets no token: nothing can be told of its keys.
    if span is None or span.stop < rule.shape.min_tokens or 0 in spread.sizes:
        return None
    q, k, _ = call.to_heads()
    halo = _halo(rule.shape.pattern, span.grid, site.block or 0, spread)
    # Where there are more ranks than heads they would gather all queries too, and compute them many times.
    trades = ring_of(share, k.shape[1]).groups == 1
    if halo is None or (trades and 2 * halo.most * k.shape[1] >= rows_traded(spread, *_heads(q, k, peers))):
        return None
    start = spread.start(peers.rank)
    span = replace(span, part=(start, start + q.shape[2]))
    geometry = geometry_of(call, spread)
    able = _able(rule, span, geometry, site.block or 0)
    if not peers.all_of(bool(able)):
        return None
    decision = Decision(site, geometry, rule, rule.shape.pattern.name, rule.shape.pattern.name, span)
    return HaloCall(halo, decision, able)


def geometry_of(call: AttentionCall, spread: Spread) -> Geometry:
    """Describe an open call of one rank: its own queries, and the keys of all."""
    q, k, v = call.to_heads()
    if 0 not in spread.sizes:
        k, v = (x[:, :, :1].expand(-1, -1, spread.length, -1) for x in (k, v))
    return describe(
        q, k, v, scale=call.kw.get("scale"), precision=call.precision,
        low_precision=call.kw.get("low_precision_attention") is not False,
    )  # fmt: skip


def _heads(q, k, peers) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return cut_heads(q.shape[1], k.shape[1], peers.weights)


def _rule(router, site, context: StepContext) -> Rule | None:
    """Find the pattern's rule where nothing else is done to the call that wants all queries, or the call's time."""
    covers = rules_of(router, context, site)
    if perturbing(covers, context.perturbation) is not None or any(rule.timing for rule in router.rules):
        return None
    rule = winner(covers, "shape")
    if (
        rule is None
        or rule.shape.if_faster
        or rule.guard == GUARD_EVERY
        or any(each.kind == "strength" for each in covers)
    ):
        return None
    return rule


def _video_alone(tokens, site, spread: Spread) -> VideoSpan | None:
    """Find where the video is; None where the sequence holds anything else, which sees all and is seen by all."""
    if tokens.role(site.role, spread.length, spread.length) != site.role:
        return None
    span = tokens.video_span(site.role, spread.length, spread.length)
    alone = not isinstance(span, Reason) and span.side == BOTH and prod(span.grid) == spread.length
    return span if alone and not spread.before else None


def _halo(pattern: Pattern, grid: Grid, block: int, spread: Spread) -> Halo | None:
    """Find what each rank fetches; None for a pattern that takes turns, or follows from the tensors."""
    turns = [turns_of(part, grid, block) for _, part in parts_of(pattern, block)]
    relations = tuple(relation_of(turn[0], grid) for turn in turns)
    if None in relations or any(len(turn) > 1 for turn in turns):
        return None
    return _halo_of(spread, tuple(dict.fromkeys(relations)))


# One for all blocks of a model that see alike.
@lru_cache(maxsize=16)
def _halo_of(spread: Spread, relations: tuple) -> Halo:
    return Halo(spread, relations)


def _able(rule: Rule, span: VideoSpan, geometry: Geometry, block: int) -> tuple[Runner, ...]:
    """List what runs the pattern on a part of the queries as fast as others run it on all; () for nothing."""
    able = runners(rule.shape.pattern, span, geometry, block=block, engine=rule.shape.engine)
    if isinstance(able, Reason):
        return ()
    # On a GPU other engines are faster than those that gather, but for whole frames.
    as_fast = geometry.device == "cpu" or any(set(runner.engines) == {FRAME_SLICES.name} for runner in able)
    return tuple(budgeted(rule, one, geometry) for one in able) if as_fast or rule.shape.engine != AUTO else ()
