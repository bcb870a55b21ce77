"""What long work of this pack asks between its steps, so that whoever waits for it can stop it.

Nothing by itself. ComfyUI's way to interrupt is handed in from nodes/: it raises.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing() -> None:
    return None


_check: Callable[[], None] = _nothing


def set_interrupt_check(check: Callable[[], None] = _nothing) -> None:
    """From now on `ask` calls `check`, which raises where the work is to stop; without one it does nothing."""
    global _check
    _check = check


def check_interrupt() -> None:
    """Goes on, or raises what `check` raises. Leaves nothing half made behind: what is asked for next is made anew."""
    _check()
