"""Calls that are given an output which was kept: which these are, and what attends where none was."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ..core.error_handling import error_text, free_frames
from ..core.identity import KeepsIdentity
from ..core.reason import Reason
from ..core.site import CALLER, PEERS, site_of
from ..reuse.store import Place
from .attention_call import AttentionCall
from .errors import UnsupportedAttention
from .rules import ERROR, Rule, covering, winner
from .run_stats import Decision, RunStats

# How a report calls what runs then, and the end of its Decision's key.
REUSED = "kept output"
Run = Callable[[AttentionCall], torch.Tensor]


class ReusedCalls(KeepsIdentity):
    """Tells of each call of a Decision whether it attends or is given what was kept.

    place: of the outputs.
    twin: the Decision of the calls that are given one.
    """

    __slots__ = ("place", "twin")

    def __init__(self, place: Place, twin: Decision):
        self.place, self.twin = place, twin

    def choose(self, decision: Decision, call: AttentionCall) -> Decision:
        """Give the Decision by which a call is answered: `decision` where it attends."""
        return self.twin if self.place.find(call.options[CALLER], call.mask, call.split_out) else decision


def prepare(router, decision: Decision, run: Run, key: tuple, call: AttentionCall, stats: RunStats) -> Run:
    """Let calls of a new Decision be given kept outputs where a rule of the router asks for that.

    run: what is done to each of its calls.
    key: of the Decision among those of `stats`.
    call: the first of its calls, open.
    Returns what is done to each that attends.
    Raises UnsupportedAttention where that cannot be and the rule wants an error.
    """
    if all(rule.reuse is None for rule in router.rules) or decision.rule is not None and decision.rule.perturbation:
        return run
    context = key[2]
    rule = winner(covering(router.rules, context.active_of(router), decision.site), "reuse")
    if rule is None or rule.reuse.every < 2:
        return run
    why = why_not(decision, call, stats)
    if why is not None:
        if rule.on_unsupported == ERROR:
            raise refused(rule, decision, why, stats)
        decision.unshaped = decision.unshaped or (rule.label, why)
        return run
    if PEERS in call.options:
        # Of several GPUs each keeps what it has behind the trade.
        return run
    # What else the step is about may change between the step that attends and those that follow.
    place = stats.reuse.store_of(rule).place((*key[:2], *key[3:]))
    twin = Decision(decision.site, decision.geometry, rule, rule.label, REUSED, decision.video_span)
    twin.history = stats.history
    attend = partial(_attend, place, run)
    twin.run = partial(_give, place, twin, attend)
    decision.reuse = ReusedCalls(place, twin)
    stats.decisions[(*key, REUSED)] = twin
    return attend


def why_not(decision: Decision, call: AttentionCall, stats: RunStats) -> Reason | None:
    """Say why no output of these calls can be kept, or None."""
    caller = call.options.get(CALLER)
    if stats.reuse is None:
        return Reason("it runs outside of a sampling")
    if stats.reuse.refused:
        return Reason(stats.reuse.refused)
    if decision.geometry is None:
        return Reason("its tensors cannot be read as heads")
    if decision.geometry.grad:
        return Reason("a gradient is asked for")
    if site_of(call.options) is None:
        return Reason("it does not tell which module makes it")
    if caller is None or caller.about is None:
        return Reason("it cannot be told which prompts it is about")
    return None


def refused(rule: Rule, decision: Decision, why: Reason, stats: RunStats) -> UnsupportedAttention:
    """Make the error that a rule asks for where no output of a Decision's calls can be kept."""
    asker = stats.find_asker(rule.asker)
    who = "" if asker is None else f"{asker.title}, "
    return UnsupportedAttention(
        f"{who}every: no output of {decision.site.role}-attention can be kept: {why}. Bypass the node or set "
        "on_unsupported to 'fall back'."
    )


def _attend(place: Place, run: Run, call: AttentionCall) -> torch.Tensor:
    # Of a closed call nothing here may hold a tensor of the three.
    heads, split, mask = call.heads, call.split_out, call.mask
    out = run(call)
    place.keep(out, heads, split, mask)
    return out


def _give(place: Place, twin: Decision, attend: Run, call: AttentionCall) -> torch.Tensor:
    try:
        out = place.found.give()
    except Exception as error:  # no memory for a copy, say
        twin.reason = f"giving a kept output failed ({error_text(error)})"
        place.store.give_up(twin.reason)
        free_frames(error)
    else:
        call.open()
        return out
    twin.fell_back += 1
    return attend(call)
