"""What a model's blocks make, read before its head in a computed call and put there in a forecast one."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...attention.core.allocation_record import record_paused
from ...attention.families.facts import Head
from ...attention.forecast.history import Streams, relative_error
from . import hooks
from .hooks import Handle

# Of a diffusion model while it is sampled: its HeadTap.
ATTRIBUTE = "_video_attention_head"


class HeadTap:
    """Stands before a model's head.

    head: where that is, as the family has it.
    given: what goes to the head in the place of what the blocks made; None lets that through.
    guess: a forecast of what the blocks will make; None for none.
    seen: what the blocks made in the last call, where it went to the head.
    error: relative L2 of the head's output of the guess, a scalar tensor; None without a guess.
    used: whether the last call came to the head.
    attempt: runs a function that may fail, and gives None where it did.
    """

    def __init__(self, head: Head):
        self.head = head
        self.clear()

    def clear(self) -> None:
        """Lets everything through and forgets what was seen."""
        self.given: Streams | None = None
        self.guess: Streams | None = None
        self.seen: Streams | None = None
        self.error: torch.Tensor | None = None
        self.attempt, self.used = _run, False

    def attach(self, model: torch.nn.Module) -> Iterator[Handle]:
        """Takes its place before the head of a diffusion model, until the Handles are removed."""
        for name in self.head.names:
            found = getattr(model, name, None)
            if isinstance(found, torch.nn.Module):
                yield hooks.replace_method(found, "forward", self._around(found.forward))
            elif found is not None:
                yield hooks.replace_method(model, name, self._around(found))
        setattr(model, ATTRIBUTE, self)
        yield Handle(lambda: vars(model).pop(ATTRIBUTE, None))

    def _around(self, found):
        def before_head(x, *args, **kwargs):
            self.used = True
            if self.given is not None:
                return found(_like(x, self.given), *args, **kwargs)
            self.seen = _streams(x)
            out = found(x, *args, **kwargs)
            if self.guess is not None:
                self.error = self.attempt(lambda: self._compare(found(_like(x, self.guess), *args, **kwargs), out))
            return out

        return before_head

    @staticmethod
    def _compare(guessed, out) -> torch.Tensor:
        with record_paused():
            return relative_error(_streams(guessed), _streams(out))


def _run(function):
    return function()


def _streams(value) -> Streams:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _like(x, streams: Streams):
    """Gives streams in the form in which the head has what the blocks made."""
    return type(x)(streams) if isinstance(x, (list, tuple)) else streams[0]
