"""Choices of key blocks that are kept from one step to the next: neighbouring steps choose nearly the same."""

from __future__ import annotations

from collections.abc import Callable

from ..core.allocation_record import record_paused


def at_once(make: Callable):
    """Chooses in every call."""
    return make()


class Held:
    """What a pattern chose in one site and geometry of one run, for `refresh` evaluations of the model.

    evaluations: gives how many evaluations have begun, 0 where nobody counts: then nothing is kept. Calls of one
    evaluation are told apart by their order: positive and negative prompt, or windows of a long clip, one after the
    other. It belongs to a Decision and goes with it, so no run sees another's choices.
    """

    def __init__(self, refresh: int, evaluations: Callable[[], int]):
        self.refresh, self.evaluations = refresh, evaluations
        self.now, self.call = 0, 0
        self.kept: dict[int, tuple[int, object]] = {}

    def __call__(self, make: Callable):
        """What was kept for this call, or what make() gives now."""
        now = self.evaluations()
        if not now:
            return make()
        self.now, self.call = now, self.call + 1 if now == self.now else 0
        since, chosen = self.kept.get(self.call, (0, None))
        if not since or now - since >= self.refresh:
            with record_paused():
                chosen = make()
            self.kept[self.call] = now, chosen
        return chosen
