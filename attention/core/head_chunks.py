"""Calls with a part of a module's heads: some packs make several, one after the other, to need less memory at once."""

from __future__ import annotations

from dataclasses import replace
from math import gcd

from .reason import Reason
from .site import AttentionSite

# Spans of heads: (first, last), last None: to the end.
Spans = tuple[tuple[int, int | None], ...]


class HeadChunks:
    """Counts the heads of each module's calls, which come in their order. Source: MiniMax H3 Low VRAM Attention of
    KJNodes, which gives the first calls one head more where the number does not divide."""

    def __init__(self):
        self._done: dict[AttentionSite, dict[object, int]] = {}

    def of(self, site: AttentionSite | None, heads: int, asked: object = None) -> int | None:
        """The first head of a call with so many heads; None for a call with all of them, or of an unknown number.

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
        """The module is called: what a call before it left open is over."""
        if self._done:
            self._done.pop(site, None)


def pattern_of(pattern, first: int, heads: int, total: int):
    """The pattern for `heads` heads from `first` on, of `total`: each keeps its own number. Or why that cannot be."""
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


def spans_of(spans: Spans, first: int, heads: int, total: int) -> Spans:
    """Spans of all `total` heads as spans of the `heads` from `first` on; empty where none is among them."""
    found = ((max(a, first), min(total - 1 if b is None else b, first + heads - 1)) for a, b in spans)
    return tuple((a - first, b - first) for a, b in found if a <= b)
