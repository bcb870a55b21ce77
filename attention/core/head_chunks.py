"""Chunks of heads: some packs attend with a part of a module's heads at a time, to need less memory at once."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from .reason import Reason
from .site import AttentionSite

# Spans of heads: (first, last), last None: to the end.
Spans = tuple[tuple[int, int | None], ...]


class HeadChunks:
    """Counts the heads of each module's calls, which come in the order of the heads.

    Source: MiniMax H3 Low VRAM Attention of KJNodes, which gives the first calls one head more where the number does
    not divide.
    """

    def __init__(self):
        self._done: dict[AttentionSite, dict[object, int]] = {}

    def of(self, site: AttentionSite | None, heads: int, asked: object = None) -> int | None:
        """Return the first head of a call; None for a call with all heads, or where their number is unknown.

        site: of the call, or None.
        heads: of the call.
        asked: who sees the call, for a router may stand below another.
        """
        if site is None or heads >= site.heads:
            return None
        done = self._done.setdefault(site, {})
        first = done.get(asked, 0)
        if first + heads > site.heads:
            first = 0
        done[asked] = (first + heads) % site.heads
        return first

    def begin(self, site: AttentionSite) -> None:
        """Begin a module's calls anew: what a call before left open is over.

        site: of the module.
        """
        if self._done:
            self._done.pop(site, None)


def pattern_of_heads(pattern, first: int, heads: int, total: int):
    """Return the pattern for some of a module's heads, each with its own number, or a Reason why that cannot be.

    pattern: for all heads.
    first: number of the first head of the call.
    heads: of the call.
    total: heads of the module.
    """
    numbers = getattr(pattern, "by_heads", ())
    if not numbers:
        return pattern
    if total % len(numbers):
        return Reason(f"{total} heads, the pattern is for {len(numbers)} groups of equal numbers of them")
    own = [numbers[head * len(numbers) // total] for head in range(first, first + heads)]
    size = gcd(heads, *(index for index in range(1, heads) if own[index] != own[index - 1]))
    if size == heads:
        return replace(pattern, **{pattern.amount: own[0]}, by_heads=())
    return replace(pattern, by_heads=tuple(own[::size]))


def spans_of_heads(spans: Spans, first: int, heads: int, total: int) -> Spans:
    """Return spans of all heads as spans of some of them; empty where none is among those.

    spans: of all heads.
    first: number of the first head of the call.
    heads: of the call.
    total: heads of the module.
    """
    found = ((max(a, first), min(total - 1 if b is None else b, first + heads - 1)) for a, b in spans)
    return tuple((a - first, b - first) for a, b in found if a <= b)
