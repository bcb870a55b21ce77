"""What a task has in hand: the place it runs at, the clock, where rows go, and how a kernel is tried safely."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager

import torch

# Seconds that a first call may take, which compiles, and any other.
FIRST, OTHER = 45.0, 15.0
# Times the bounds in a dry run.
PATIENCE = 15.0


class Sick(Exception):
    """The device does not answer any more: the process has to end. The message says after what."""


class Context:
    """A task's hands.

    place: where it runs.
    emit: writes an event to the supervisor.
    without: what an earlier try hung or died at, or has rows of already.
    seconds: that it may take; then it ends with what it has.
    """

    def __init__(self, place, emit: Callable, without=(), seconds: float = 60.0):
        self.place, self.emit, self.without = place, emit, frozenset(without)
        # A dry run depends on no clock: the machine may be busy.
        self.patience = PATIENCE if place.dry else 1.0
        self.until, self.doing = time.monotonic() + seconds * (1000 if place.dry else 1), ""

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()

    def at(self, what: str, bound: float = OTHER, **so_far) -> None:
        """Say what comes next, and how long it may take before the process is ended."""
        self.doing = what
        self.emit(event="at", what=what, bound=bound * self.patience, so_far=so_far)

    def row(self, **cells) -> None:
        """Give a row."""
        self.emit(event="row", row=cells)

    def note(self, text: str) -> None:
        """Give a sentence."""
        self.row(note=text)

    def not_run(self, refused: dict[str, str]) -> None:
        """Give a sentence that names what was not run, by its reason: {name: reason}."""
        reasons: dict[str, list[str]] = {}
        for name, why in refused.items():
            reasons.setdefault(str(why), []).append(name)
        if reasons:
            self.note("not run: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items()))

    @contextmanager
    def attempt(self, what: str, bound: float = FIRST, **cells):
        """Do something that may raise: then it is a row, and nothing else. Sick where the device is gone with it."""
        self.at(what, bound)
        try:
            yield
        except Exception as problem:
            traceback.print_exc()
            text = f"{type(problem).__name__}: {problem}".splitlines()[0][:300]
            self.row(kernel=what, failed=text, **cells)
            problem.__traceback__ = None
            self.recover(text)

    def recover(self, after: str) -> None:
        """Free what a failure left. Sick where the device does not answer."""
        gc.collect()
        if self.place.device.type != "cuda":
            return
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.ones(8, device=self.place.device).sum().item()
        except Exception as gone:
            raise Sick(f"{after}; then the GPU did not answer ({type(gone).__name__})"[:500]) from gone
