"""Which evaluations of the model belong to which step of the sampler."""

from __future__ import annotations

from collections.abc import Callable

Mark = tuple[float, dict[tuple, int]]


class StepEdges:
    """Marks where each step ends, by the sampler's callbacks and the evaluations between them.

    A sampler that evaluates the model several times a step (heun, dpm_2, seeds_3 ...) calls back behind the first of
    these: its step lasts until the evaluation that the next callback follows. One that evaluates several times before
    its first callback (dpm_adaptive) calls back where a step is over.

    look: gives what a mark is, by now.
    marks: of the steps; the last one moves on with what comes behind its callback.
    """

    def __init__(self, look: Callable[[], Mark]):
        self.look, self.marks = look, []
        # Evaluations since the last callback, the mark before the last of several, and whether callbacks come early.
        self._open, self._edge, self._early = 0, None, None

    def begin(self) -> None:
        """Note that an evaluation begins."""
        if self._open:
            self._edge = self.look()
        self._open += 1

    def call_back(self) -> None:
        """Note a callback."""
        if self._early is None:
            self._early = self._open <= 1
        if self._early and self._edge is not None:
            self.marks[-1] = self._edge
        self.marks.append(self.look())
        self._open, self._edge = 0, None

    def end(self) -> None:
        """Note that the run is over."""
        if self._early and self._open:
            self.marks[-1] = self.look()
