"""Interruption of long work: planning asks between its steps whether it is to stop.

By itself nothing stops it. ComfyUI's way to interrupt is handed in from nodes/: it raises.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing() -> None:
    return None


_check: Callable[[], None] = _nothing


def set_interrupt_check(check: Callable[[], None] = _nothing) -> None:
    """Set what check_interrupt calls from now on.

    check: raises where the work is to stop; left out: nothing stops it.
    """
    global _check
    _check = check


def check_interrupt() -> None:
    """Raise what the host raises where the work is to stop; else go on.

    Callers leave nothing half made behind: what is asked for next is made anew.
    """
    _check()
