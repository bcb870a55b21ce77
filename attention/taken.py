"""Who attended past our rules, in sentences."""

from __future__ import annotations

from collections.abc import Callable

from .owner import chained, owner
from .router import Router
from .tally import Tally


def unreached(tally: Tally, top: Router, routers: tuple[Router, ...]) -> tuple[str, ...]:
    """A sentence for each router below another override that got no call in this run although it has rules.

    top: the router in the slot. routers: all of the model's that were not cleared.
    """
    asked = {key[0] for key in tally.records}
    idle = [router for router in routers if router is not top and router.rules and router not in asked]
    return tuple(_sentence(router, routers) for router in idle)


def _sentence(router: Router, routers: tuple[Router, ...]) -> str:
    between = [other.previous for other in routers if other is not router and other.previous is not None]
    above = next((each for each in between if passes_on_to(each, router)), None)
    rules = ", ".join(dict.fromkeys(rule.label for rule in router.rules))
    if above is not None:
        return f"Without effect in this run: {rules}; {owner(above)} and what was set behind it took every call."
    who = next((owner(each) for each in between if not passes_on_to(each)), "another node")
    return f"Without effect in this run: {rules}; {who} was set behind and passes nothing on. Place {who} first."


def passes_on_to(attention: Callable, router: Router | None = None) -> bool:
    """Whether an override holds this router, or with None any."""
    return chained(attention, lambda held: isinstance(held, Router) and router in (None, held))
