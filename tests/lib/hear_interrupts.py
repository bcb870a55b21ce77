"""Lets processes hear Ctrl+C in tests that send it."""

from __future__ import annotations

import signal


def hear_interrupts() -> None:
    """Run in a new process before its program: what a shell starts behind itself ignores Ctrl+C, and all below too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
