"""Selections of key blocks that are kept from one step to the next: neighbouring steps select nearly the same."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.allocation_record import record_paused


def select_anew(select: Callable, sample: Callable | None = None):
    """Select blocks in every call: what runs without a cache."""
    return select()


class Overlap:
    """Tells how much of a new selection a kept one has, once that is known: nothing waits for a GPU.

    kept: (B, H, r, C) bool, what was selected for some blocks of queries.
    new: likewise, what would be selected now.
    """

    def __init__(self, kept: torch.Tensor, new: torch.Tensor):
        share = (kept & new).sum() / new.sum().clamp(min=1)
        self._done = None
        if share.device.type == "cuda":
            self._share = share.to("cpu", non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(share.device))
        else:
            self._share = share

    @property
    def share(self) -> float | None:
        """Return it, 0 to 1; None while the GPU still counts."""
        return float(self._share) if self._done is None or self._done.query() else None


class Kept:
    """One selection.

    since: the evaluation that it is of.
    selected: what the engine runs by.
    sample: its choice for some blocks of queries; None where nothing is measured.
    overlap: the last Overlap that was measured of it, which a GPU may still count.
    """

    def __init__(self, since: int, selected: object, sample: torch.Tensor | None = None):
        self.since, self.selected, self.sample = since, selected, sample
        self.overlap: Overlap | None = None


class CachedBlocks:
    """Keeps what a pattern selected in one site and geometry of one run.

    refresh: for how many evaluations of the model a selection stands.
    evaluations: gives how many evaluations have begun, 0 where nobody counts: then nothing is kept.
    bound: a selection stands beyond those for as long as it has so much of a new one, 0 to 1; 0: it does not. That is
        measured in each evaluation beyond, on some blocks of queries of all heads: |kept and new| / |new|. On a GPU it
        decides about the next evaluation, since nothing waits for the count.
    Calls of one evaluation are told apart by their order: positive and negative prompt, or windows of a long clip, one
    after the other. A cache belongs to a Decision and goes with it, so no run sees another's selections.
    asked: how often a selection was wanted, where evaluations are counted.
    chosen: how often of these it was made.
    """

    def __init__(self, refresh: int, evaluations: Callable[[], int], bound: float = 0.0):
        self.refresh, self.evaluations, self.bound = refresh, evaluations, bound
        self.now, self.call, self.asked, self.chosen = 0, 0, 0, 0
        self.cached: dict[int, Kept] = {}

    def __call__(self, select: Callable, sample: Callable | None = None):
        """Give what is cached for this call, or what select() gives now.

        sample: gives the new choice for some blocks of queries, as Overlap has it; None: it cannot be measured.
        """
        now = self.evaluations()
        if not now:
            return select()
        self.now, self.call = now, self.call + 1 if now == self.now else 0
        self.asked += 1
        kept = self.cached.get(self.call)
        if kept is not None and (now - kept.since < self.refresh or self._still_holds(kept, sample)):
            return kept.selected
        self.chosen += 1
        with record_paused():
            seen = sample() if self.bound and sample is not None else None
            self.cached[self.call] = Kept(now, select(), seen)
        return self.cached[self.call].selected

    def anew(self) -> CachedBlocks:
        """Make one like it that keeps nothing yet."""
        return CachedBlocks(self.refresh, self.evaluations, self.bound)

    def _still_holds(self, kept: Kept, sample: Callable | None) -> bool:
        """Measure how much of a new selection a kept one has, and tell whether that is enough."""
        if kept.sample is None or sample is None:
            return False
        before = kept.overlap
        with record_paused():
            new = sample()
            # Of another grid or batch it tells nothing.
            if new.shape != kept.sample.shape:
                return False
            kept.overlap = Overlap(kept.sample, new)
        now, last = kept.overlap.share, None if before is None else before.share
        share = last if now is None else now
        return share is None or share >= self.bound
