"""Memory that is missing: at one allocation of a call, or wherever a call would hold more than there is."""

from __future__ import annotations

import torch

from attention.core.peak_memory import AllocationCounter

WORDS = "CUDA out of memory. Tried to allocate (a test's)"
# Smaller ones are indices and means; whoever has no room for them has none for the rest of the render.
LEAST = 256


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
