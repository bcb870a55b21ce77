"""Selections of key blocks that are kept from one step to the next: neighbouring steps select nearly the same."""

from __future__ import annotations

from collections.abc import Callable

from ..core.allocation_record import record_paused


def select_anew(select: Callable):
    """Select blocks in every call: what runs without a cache."""
    return select()


class CachedBlocks:
    """Keeps what a pattern selected in one site and geometry of one run, for `refresh` evaluations of the model.

    refresh: how many evaluations a selection stands for.
    evaluations: gives how many evaluations have begun, 0 where nobody counts: then nothing is kept.
    Calls of one evaluation are told apart by their order: positive and negative prompt, or windows of a long clip, one
    after the other. A cache belongs to a Decision and goes with it, so no run sees another's selections.
    """

    def __init__(self, refresh: int, evaluations: Callable[[], int]):
        self.refresh, self.evaluations = refresh, evaluations
        self.now, self.call = 0, 0
        self.cached: dict[int, tuple[int, object]] = {}

    def __call__(self, select: Callable):
        """Give what is cached for this call, or what select() gives now."""
        now = self.evaluations()
        if not now:
            return select()
        self.now, self.call = now, self.call + 1 if now == self.now else 0
        since, selected = self.cached.get(self.call, (0, None))
        if not since or now - since >= self.refresh:
            with record_paused():
                selected = select()
            self.cached[self.call] = now, selected
        return selected
