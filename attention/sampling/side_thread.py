"""A function that waits in the middle of its work, as a coroutine does, though it was not written as one."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue

import torch

ENDED = object()


class Abandoned(BaseException):
    """Raised inside a function whose questions nobody will answer any more."""


class SideThread:
    """Runs a function in a thread of its own, but only while its caller waits in `question`.

    What the function asks with ask(x) is what `question` returns, and what `answer` is given is what it gets: so one
    function can be served first inside of one run and then inside of another. Use it as a context: at its end a
    function that still waits ends too. Inference mode, gradients, context variables and the stream of a CUDA device are
    as where it was made.

    function: takes `ask`.
    result: what the function returned.
    """

    def __init__(self, function: Callable):
        self.result = None
        self._asked, self._answers = SimpleQueue(), SimpleQueue()
        modes, stream = (torch.is_inference_mode_enabled(), torch.is_grad_enabled()), _stream()

        def work():
            with torch.inference_mode(modes[0]), torch.set_grad_enabled(modes[1]), stream:
                self._asked.put(self._outcome(function))

        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._answers.put((None, Abandoned()))
        self._thread.join()

    def question(self):
        """Wait for what the function asks next; ENDED after it returned. Raises what the function raised."""
        asked, error = self._asked.get()
        if error is not None:
            raise error
        return asked

    def answer(self, value) -> None:
        """Answer the last question. Call `question` next."""
        self._answers.put((value, None))

    def _outcome(self, function: Callable) -> tuple:
        try:
            self.result = function(self._ask)
        except BaseException as error:
            return ENDED, error
        return ENDED, None

    def _ask(self, question):
        self._asked.put((question, None))
        value, error = self._answers.get()
        if error is not None:
            raise error
        return value


def _stream():
    """Return a context with the CUDA stream of this thread."""
    return torch.cuda.stream(torch.cuda.current_stream()) if torch.cuda.is_initialized() else contextlib.nullcontext()
