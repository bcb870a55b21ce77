"""Memory that is missing: at one allocation of a call, or wherever a call would hold more than there is."""

from __future__ import annotations

import os
import sys
from collections import Counter

import torch
from source import ROOT

from attention.core.peak_memory import AllocationCounter

WORDS = "CUDA out of memory. Tried to allocate (a test's)"
# Smaller ones are indices and means; whoever has no room for them has none for the rest of the render.
LEAST = 256
# Whose allocations count, and who looks on.
OURS = tuple(f"{ROOT}{os.sep}{room}{os.sep}" for room in ("attention", "nodes"))
COUNTERS = ("memory_missing.py", f"core{os.sep}peak_memory.py")


class Limited(AllocationCounter):
    """Raises as torch does where the tensors made while it is open would take more than `limit` bytes at once."""

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.raised = limit, 0

    def _count(self, storage) -> None:
        super()._count(storage)
        if self.live > self.limit:
            self.raised += 1
            raise torch.OutOfMemoryError(WORDS)


class FailsAt(AllocationCounter):
    """Raises at the allocation of that number, from 0, and at as many as `times` says from there on."""

    def __init__(self, number: int | None, times: int = 1):
        super().__init__()
        self.number, self.times, self.seen, self.raised = number, times, 0, 0

    def _count(self, storage) -> None:
        if storage.nbytes() < LEAST:
            return
        number, self.seen = self.seen, self.seen + 1
        if self.number is not None and self.number <= number < self.number + self.times:
            self.raised += 1
            raise torch.OutOfMemoryError(WORDS)


class FailsIn(AllocationCounter):
    """Raises where one function of this pack allocates itself: what it has the host do is the host's.

    place: (file, function), as in `seen`; None: nowhere.
    times: how often.
    seen: (file, function) -> how many allocations it made.
    """

    def __init__(self, place: tuple[str, str] | None = None, times: int = 1):
        super().__init__()
        self.place, self.times, self.raised, self.seen = place, times, 0, Counter()

    def _count(self, storage) -> None:
        super()._count(storage)
        # What is on the meta device is a shape.
        place = _who_allocates() if storage.nbytes() >= LEAST and storage.device.type != "meta" else None
        if place is None:
            return
        self.seen[place] += 1
        if place == self.place and self.raised < self.times:
            self.raised += 1
            raise torch.OutOfMemoryError(WORDS)


def _who_allocates() -> tuple[str, str] | None:
    """The innermost function that is no library's, where it is this pack's."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if not path.startswith("<") and "site-packages" not in path and not path.endswith(COUNTERS):
            break
        frame = frame.f_back
    if frame is None or not path.startswith(OURS):
        return None
    return path.removeprefix(f"{ROOT}{os.sep}"), frame.f_code.co_name
