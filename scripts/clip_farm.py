"""Deals clips out to workers: one each at a time, again when a worker dies, until all are made or given up."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterable
from typing import Protocol

# How often a clip is tried whose worker died, and how many workers may die one after the other without a clip made.
ATTEMPTS, DEATHS = 3, 5


class WorkerDied(Exception):
    """A worker is gone with the clip that it was making."""


class ClipFailed(Exception):
    """A clip cannot be made, whoever tries; the message says why."""


class Cluster(Protocol):
    """Where workers live."""

    def start(self, slot: int):
        """Begins a worker; it may not be ready yet."""

    def submit(self, worker, clip):
        """Hands a clip to a worker: something to wait for."""

    def wait(self, promises: list) -> list:
        """Waits until one or more of what was handed out is over, and gives those."""

    def result(self, promise):
        """What came of it. Raises WorkerDied or ClipFailed."""


class Farm:
    """Makes clips on some workers.

    cluster: where they live.
    workers: how many.
    made: (clip, result, slot) is told of each clip as it comes.
    """

    def __init__(self, cluster: Cluster, workers: int, made: Callable[[Hashable, object, int], None]):
        self.cluster, self.made = cluster, made
        self.slots: list = [None] * workers
        self.failed: dict[Hashable, str] = {}
        self._tries: collections.Counter = collections.Counter()
        self._deaths, self._why = 0, ""

    def run(self, clips: Iterable[Hashable]) -> dict[Hashable, str]:
        """Makes every clip; gives those that could not be, and why."""
        waiting, busy = collections.deque(clips), {}
        while waiting or busy:
            free = set(range(len(self.slots))) - {slot for slot, _ in busy.values()}
            for slot in sorted(free):
                if waiting:
                    promise, clip = self._begin(slot, waiting[0]), waiting.popleft()
                    busy[promise] = (slot, clip)
            for promise in self.cluster.wait(list(busy)):
                slot, clip = busy.pop(promise)
                if self._end(promise, slot, clip):
                    waiting.append(clip)
            if self._deaths >= DEATHS:
                why = f"{self._deaths} workers died one after the other, the last: {self._why}"
                self.failed |= dict.fromkeys((*waiting, *(clip for _, clip in busy.values())), why)
                break
        return self.failed

    def _begin(self, slot: int, clip):
        if self.slots[slot] is None:
            self.slots[slot] = self.cluster.start(slot)
        return self.cluster.submit(self.slots[slot], clip)

    def _end(self, promise, slot: int, clip) -> bool:
        """Takes what came of a clip; tells whether it is to be tried again."""
        try:
            result = self.cluster.result(promise)
        except ClipFailed as failed:
            self.failed[clip] = str(failed)
            return False
        except WorkerDied as died:
            self.slots[slot] = None
            self._deaths, self._why = self._deaths + 1, str(died)
            self._tries[clip] += 1
            if self._tries[clip] < ATTEMPTS:
                return True
            self.failed[clip] = f"{self._tries[clip]} workers died over it: {died}"
            return False
        self._deaths = 0
        self.made(clip, result, slot)
        return False
