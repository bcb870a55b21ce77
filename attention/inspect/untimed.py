"""Where `timing` is off that would tell how long attention takes."""

from __future__ import annotations

from ..routing.rules import Asker
from ..routing.run_stats import RunStats


def untimed_of(stats: RunStats) -> tuple[Asker, ...]:
    """List the nodes that have a `timing` which is off: those of rules about kernels and patterns."""
    rules = [rule for rule in stats.rules if rule.kind in ("", "shape")]
    if any(rule.timing for rule in rules):
        return ()
    found = dict.fromkeys(rule.asker for rule in rules if rule.asker is not None and rule.asker.times)
    return tuple(map(stats.find_asker, found))


def ids_of(untimed: tuple[Asker, ...]) -> tuple[str, ...]:
    """List their ids, each once."""
    return tuple(dict.fromkeys(node for asker in untimed for node in asker.nodes))


def turn_on(untimed: tuple[Asker, ...]) -> str:
    """Say where timing is to be turned on."""
    # Any of them does. No ids: ComfyUI shows a kept report again when its nodes have others.
    where = " or ".join(list(dict.fromkeys(asker.name for asker in untimed))[:2])
    return f"turn timing on in {where or 'a Video Attention Backend before the sampler'}"
