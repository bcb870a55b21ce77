"""Pauses the host's record of what a model allocates.

Newer hosts record what a model's blocks allocate in one step and replay it in others ("Comfy Compiler", ComfyUI 0.34).
What outlives its block, or comes in some steps only, must be allocated while the record is paused: else it breaks it,
or lies in memory that the host gives away. nodes/ hands over how to pause; without a host there is no record.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext

_pause: Callable[[], AbstractContextManager] = nullcontext
_here = threading.local()


def set_pause(pause: Callable[[], AbstractContextManager]) -> None:
    """Set how the host's record is paused.

    pause: makes the host's context manager for that.
    """
    global _pause
    _pause = pause


@contextmanager
def record_paused():
    """Pause the host's record for allocations that are kept, or that do not come in every step. A context manager."""
    # Once for each thread: the end of an inner pause would end the outer one.
    if getattr(_here, "paused", False):
        yield
        return
    _here.paused = True
    try:
        with _pause():
            yield
    finally:
        _here.paused = False
