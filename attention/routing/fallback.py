"""What runs a call below another pack's override that stands between us and the host, and may raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..core.error_handling import error_text, free_frames
from ..core.function_owner import owner_of
from ..core.site import CALLER
from .errors import InputsLost, UnsupportedAttention
from .host_kernel import host_name, own_function
from .run_stats import Decision

if TYPE_CHECKING:
    from .attention_call import AttentionCall

# What is no failure of an override: ours that ask for an error, and what `let_through` adds.
_PASSING: list[type[BaseException]] = [UnsupportedAttention, InputsLost]


def let_through(kind: type[BaseException]) -> None:
    """Let exceptions of this kind end a render from below an override too, as a user's wish to stop it."""
    if kind not in _PASSING:
        _PASSING.append(kind)


def answer_below(attention: Callable, call: AttentionCall, decision: Decision, previous) -> torch.Tensor:
    """Ask an override below us, and the host's own attention where it raises, then and from then on.

    attention: what asks it.
    call: open, or closed where `attention` takes it so.
    decision: about the call. Should the override ask a router of ours below it, this one learns that the call was that
    router's.
    previous: the override, for its name.
    """
    if decision.lost is None:
        caller = call.options.get(CALLER)
        above = None if caller is None else caller.above
        if caller is not None:
            caller.above = decision
        try:
            return call.pass_to(attention)
        except Exception as error:
            if isinstance(error, tuple(_PASSING)) or not is_whole(call):
                raise
            decision.lost = owner_of(previous), error_text(error)
            free_frames(error)
        finally:
            if caller is not None:
                caller.above = above
        name = host_name(call.func, own_function(call.options))
        decision.used = name if decision.calls <= 1 else f"{decision.used}, then {name}"
    decision.without += 1
    return call.open().pass_to(own_function(call.options) or call.func)


def is_whole(call: AttentionCall) -> bool:
    """Tell whether q, k and v are still there."""
    try:
        call.peek()
    except RuntimeError:
        return False
    return True
