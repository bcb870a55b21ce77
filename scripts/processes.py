"""Processes that end with the one that started them, whatever ends that one.

Standard library only: host.py and launch.py run before anything is installed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator

# Set for a process whose standard input is a pipe that its parent holds open as long as it lives.
FOLLOW = "VIDEO_ATTENTION_FOLLOW"


def follow(end: Callable = lambda: os._exit(143)) -> None:
    """Calls `end` once the process that started this one is gone, killed or not; nothing where FOLLOW is not set."""
    if os.environ.pop(FOLLOW, None) is None:
        return
    # Kept apart from number 0, which pytest replaces while it captures and children would inherit.
    pipe, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        end()

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def child(command: list[str], seconds: float = 60, **more) -> Iterator[subprocess.Popen]:
    """A process that calls follow and so ends with this one, whatever ends it.

    seconds: what it may take to stop its own servers and browsers when it is asked to end. more: as Popen takes it.
    """
    environment = {**more.pop("env", os.environ), FOLLOW: "1"}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, **more)
    try:
        yield process
    finally:
        stop(process, seconds)
        process.stdin.close()


def wait(process: subprocess.Popen) -> int:
    """The exit status of a child. Ctrl-C reaches it as well, and it has servers to stop: only a second one is ours."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait()


def stop(process: subprocess.Popen, seconds: float) -> None:
    """Asks a process to end, and ends it where it does not within so many seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
