"""Measures samplers whose model has nothing of this pack, by what the host tells of their progress: a baseline."""

from __future__ import annotations

import time
from dataclasses import dataclass

from comfy_execution.progress import ProgressHandler, get_progress_state

NAME = "video_attention.clock"


@dataclass
class Progress:
    """How far a node came and when, in seconds of one clock.

    begun: when it started.
    first: (when, steps done) of the first that was told; None before.
    last: the same of the last.
    total: steps.
    ended: when it finished; None before.
    """

    begun: float
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    total: float = 0.0
    ended: float | None = None

    def words(self) -> str:
        """Says how long its steps took, without what loading took before the first; empty where that is not known."""
        if self.first is not None and self.last[1] > self.first[1]:
            each = (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])
            return f"{each * self.total:.2f} s for {self.total:.0f} steps, {each:.2f} s each"
        return "" if self.ended is None else f"{self.ended - self.begun:.2f} s with loading"


class _Clock(ProgressHandler):
    """Keeps the Progress of every node of one prompt."""

    def __init__(self):
        super().__init__(NAME)
        self.nodes: dict[str, Progress] = {}

    def start_handler(self, node_id, state, prompt_id) -> None:
        self.nodes[node_id] = Progress(time.perf_counter())

    def update_handler(self, node_id, value, max_value, state, prompt_id, image=None) -> None:
        now = time.perf_counter()
        seen = self.nodes.setdefault(node_id, Progress(now))
        if max_value != seen.total:  # another bar of the same node
            seen.first, seen.total = None, max_value
        seen.first, seen.last = seen.first or (now, value), (now, value)

    def finish_handler(self, node_id, state, prompt_id) -> None:
        if node_id in self.nodes:
            self.nodes[node_id].ended = time.perf_counter()


def start() -> None:
    """Listens to the prompt that is about to run, once; the host forgets it with the prompt."""
    registry = get_progress_state()
    if NAME not in registry.handlers:
        registry.register_handler(_Clock())


def words_of(prompt: str, node: str) -> str:
    """Says how long a node's steps took in the prompt that runs; empty where that is not known."""
    registry = get_progress_state()
    clock = registry.handlers.get(NAME) if registry.prompt_id == prompt else None
    return clock.nodes[node].words() if clock is not None and node in clock.nodes else ""
