"""Who attended past our rules, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from ..core.function_owner import OTHER, chained, is_ours, owner_of, set_by_host
from ..core.tokens import BOTH, SIDES
from ..routing.router import Router
from ..routing.rules import format_blocks
from ..routing.run_stats import BYPASSED, Bypass, RunStats

OURS = "Video Attention's nodes"
ON_TOP, REPLACED, REPLACED_BY_HOST, STEPS = "on top", "replaced", "replaced by the host", "in these steps"
MODULE, BARE, UNKNOWN = "module", "without options", "unknown"
HOWS = {
    ON_TOP: f"which stands on top of {OURS}",
    REPLACED: f"set behind {OURS} and passing nothing on: place {OURS} behind it",
    REPLACED_BY_HOST: f"which replaces what it finds: place {OURS} behind it, and it runs what no rule covers",
    STEPS: f"whose sampler sets its own attention for each model call: there {OURS} have no effect",
    MODULE: "which runs these modules' attention itself, past every override",
    BARE: "which calls these modules without the options that carry an override",
    UNKNOWN: "past every override",
}
NOBODY = "the model's own code"


def how(override: Callable, at_start) -> str:
    """Say how an override that is not ours took a call.

    at_start: what was in the slot when the run began.
    """
    if passes_on_to(override):
        return ON_TOP
    if isinstance(at_start, Router):
        return STEPS
    return REPLACED_BY_HOST if set_by_host(override) else REPLACED


def foreign(override) -> bool:
    """Say whether what is in the slot is another pack's or the host's."""
    return override is not None and not is_ours(override)


def sentences(stats: RunStats) -> tuple[str, ...]:
    """Write a sentence for each who and how, most calls first, by what was counted so far."""
    total: Counter = Counter()
    for _, decision in stats.counted():
        total[decision.site.role] += decision.answered
    found = sorted(stats.bypasses.values(), key=lambda bypass: -sum(one.calls for one in bypass.decisions.values()))
    return tuple(_sentence(bypass, total, stats) for bypass in found)


def all_by_nobody(stats: RunStats) -> bool:
    """Say whether the model's own code made every call, without the options and without another node."""
    return set(stats.bypasses) == {(NOBODY, BARE)} and all(key[0] == BYPASSED for key in stats.decisions)


def _sentence(bypass: Bypass, total: Counter, stats: RunStats) -> str:
    roles: Counter = Counter()
    for decision in tuple(bypass.decisions.values()):
        roles[decision.site.role] += decision.calls
    calls, one = sum(roles.values()), sum(roles.values()) == 1
    verb = "was" if one or not calls else "were"
    blocks = format_blocks({site.block for site in bypass.decisions if site.block is not None})
    where = f" in blocks {blocks}" if blocks and bypass.how in (MODULE, BARE, UNKNOWN) else ""
    when = _steps(bypass, stats) if len(bypass.steps) < len(stats.marks) else ""
    who = f"an{bypass.who}" if bypass.who.startswith(OTHER) else bypass.who
    return f"{_calls(roles, total)} {verb} taken by {who}{where}{when}, {HOWS[bypass.how]}."


def _steps(bypass: Bypass, stats: RunStats) -> str:
    several = "s" if len(bypass.steps) > 1 else ""
    return f" in step{several} {format_blocks(bypass.steps)} of {len(stats.marks)}"


def _calls(roles: Counter, total: Counter) -> str:
    calls, every = sum(roles.values()), sum(total.values())
    if not calls:
        return "Attention"
    if calls == every:
        return f"All {calls} attention calls" if calls > 1 else "The one attention call"
    if len(roles) == 1 and (role := next(iter(roles))) and calls == total[role]:
        return f"The {calls} {role}-attention call{'s' if calls > 1 else ''}"
    parts = ", ".join(f"{count} {role}" for role, count in roles.most_common())
    return f"{calls} of {every} attention calls ({parts})"


def untold(stats: RunStats, known: bool) -> tuple[str, ...]:
    """Say how many calls some rules left alone since nothing tells whose these calls are.

    known: whether the model's family is.
    """
    rules: dict[str, None] = {}
    calls = 0
    for key, decision in stats.counted():
        site = decision.site
        if key[0] == BYPASSED or site.block is not None or not decision.answered:
            continue
        left = [r for r in key[0].rules if (r.blocks or (known and r.kind)) and replace(r, blocks=()).covers(site)]
        left = [r for r in left if r.shape is None or SIDES.get(site.role) == BOTH]
        rules |= dict.fromkeys(rule.label for rule in left)
        calls += decision.answered if left else 0
    if not calls:
        return ()
    whose = "told nothing of themselves, as those of a second model without these nodes" if known else "told no block"
    which, verb = ("call", "was") if calls == 1 else ("calls", "were")
    return (f"{calls} attention {which} {whose}, and {verb} left alone by: {', '.join(rules)}.",)


def unreached(stats: RunStats, top: Router, routers: tuple[Router, ...]) -> tuple[str, ...]:
    """Write a sentence for each router below another override that got no call in this run although it has rules.

    top: the router in the slot.
    routers: all of the model's that were not cleared.
    """
    asked = {key[0] for key in stats.decisions if key[0] != BYPASSED}
    idle = [router for router in routers if router is not top and router.rules and router not in asked]
    return tuple(_unreached(router, routers) for router in idle)


def _unreached(router: Router, routers: tuple[Router, ...]) -> str:
    between = [other.previous for other in routers if other is not router and other.previous is not None]
    above = next((each for each in between if passes_on_to(each, router)), None)
    rules = ", ".join(dict.fromkeys(rule.label for rule in router.rules))
    if above is not None:
        return f"Without effect in this run: {rules}; {owner_of(above)} and what was set behind it took every call."
    who = next((owner_of(each) for each in between if not passes_on_to(each)), "another node")
    return f"Without effect in this run: {rules}; {who} was set behind and passes nothing on. Place {who} first."


def passes_on_to(attention: Callable, router: Router | None = None) -> bool:
    """Say whether an override holds this router, or with None any."""
    return chained(attention, lambda held: isinstance(held, Router) and router in (None, held))
