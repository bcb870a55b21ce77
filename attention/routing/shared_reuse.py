"""Kept outputs of calls whose keys lie over several GPUs: each keeps those of its own tokens, and all are given theirs,
without a trade, or none is.
"""

from __future__ import annotations

from functools import partial

import torch

from ..core.error_handling import error_text
from ..core.identity import KeepsIdentity
from ..core.site import CALLER, AttentionSite
from ..parallel.peers import Share
from ..reuse.store import Place
from .attention_call import AttentionCall
from .decide import perturbing
from .halo_call import geometry_of
from .reused_calls import REUSED, refused, why_not
from .rules import ERROR, winner
from .run_stats import Decision
from .step_context import CONTEXT, StepContext, rules_of
from .timed_run import timed


class SharedReuse(KeepsIdentity):
    """What one rank keeps of the calls of one site and geometry.

    place: of its outputs.
    twin: the Decision of the calls that are given one.
    """

    __slots__ = ("place", "twin")

    def __init__(self, place: Place, twin: Decision):
        self.place, self.twin = place, twin

    def given(self, call: AttentionCall, share: Share) -> torch.Tensor | None:
        """Give what was kept, as the host asked for it; None on all ranks where one has nothing: budgets may differ.

        Raises what giving it raises: the others have gone on by theirs.
        """
        caller, peers = call.options[CALLER], share.peers
        if not peers.all_of(self.place.find(caller, call.mask, call.split_out)):
            return None
        self.twin.calls += 1
        caller.routed += 1
        peers.kept += 1
        return self.twin.run(call)

    def keep(self, out: torch.Tensor, call: AttentionCall) -> None:
        """Keep the output of the call that was given nothing.

        out: as the host gets it.
        """
        self.place.keep(out, call.heads, call.split_out, call.mask)


def reuse_of(router, call: AttentionCall, share: Share, site: AttentionSite, first: int) -> SharedReuse | None:
    """Find what is kept of calls like an open one; None where nothing is to be, or can be. On all ranks alike.

    first: number of the call's first head.
    Raises UnsupportedAttention where nothing can be and the rule wants an error.
    """
    context: StepContext = call.options[CONTEXT]
    stats, q, k = context.stats or router.stats, call.q, call.k
    if all(rule.reuse is None for rule in router.rules):
        return None
    key = (
        router, site, context, share, q.shape, k.shape, call.heads, first, q.dtype, q.device,
        call.mask is not None and (call.mask.shape, call.mask.dtype), call.split_in, call.kw.get("scale"),
    )  # fmt: skip
    if key not in stats.kept:
        stats.kept[key] = _decide(router, call, key, stats)
    return stats.kept[key]


def _decide(router, call: AttentionCall, key: tuple, stats) -> SharedReuse | None:
    _, site, context, share = key[:4]
    covers = rules_of(router, context, site)
    rule = winner(covers, "reuse")
    if rule is None or rule.reuse.every < 2 or perturbing(covers, context.perturbation) is not None:
        return None
    twin = Decision(site, geometry_of(call, share.spread), rule, rule.label, REUSED)
    why = why_not(twin, call, stats)
    if why is not None:
        if rule.on_unsupported == ERROR:
            # Before the trade: not every call has a part that is asked.
            raise refused(rule, twin, why, stats)
        # The rank's part of the call says why.
        return None
    # What else the step is about may change between the step that attends and those that follow.
    place = stats.reuse.store_of(rule).place((*key[:2], *key[3:]))
    twin.run, twin.history = partial(_give, place), stats.history
    if router.timing:
        twin.run = partial(timed, twin.run, twin)
    stats.decisions[(*key, REUSED)] = twin
    return SharedReuse(place, twin)


def _give(place: Place, call: AttentionCall) -> torch.Tensor:
    try:
        return place.found.give()
    except Exception as error:  # no memory for a copy, say
        place.store.give_up(f"giving a kept output failed ({error_text(error)})")
        raise
