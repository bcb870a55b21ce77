"""What runs a call that nothing of ours takes: the override found in the slot, or the host's own attention."""

from __future__ import annotations

import torch

from ..core.error_handling import error_text, free_frames
from ..core.function_owner import owner_of
from ..core.site import CALLER
from ..core.tensor_layout import to_heads
from .decide import UnsupportedAttention
from .guarded_run import InputsLost
from .run_stats import Decision

_NOTHING: dict = {}
# What is no failure of an override: ours that ask for an error, and what `let_through` adds.
_PASSING: list[type[BaseException]] = [UnsupportedAttention, InputsLost]


def let_through(kind: type[BaseException]) -> None:
    """Exceptions of this kind end a render from below an override too, as a user's wish to stop it."""
    if kind not in _PASSING:
        _PASSING.append(kind)


def in_heads(out: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, H, L, D) of what ComfyUI gives when asked for it: its attention_pytorch forgets above a batch of 32768."""
    return to_heads(out, out, out, heads, False)[0] if out.ndim == 3 else out


def answer(attention, args, kw) -> torch.Tensor:
    """One call of a function that has the host's arguments."""
    q, k, v, heads, mask, precision, split_in, split_out = args
    out = attention(
        q, k, v, heads, mask=mask, attn_precision=precision, skip_reshape=split_in, skip_output_reshape=split_out, **kw
    )
    return in_heads(out, heads) if split_out else out


def each(args, method: str) -> tuple:
    """args with q, k, v out of their containers. method: "peek" or "take"."""
    return (*(getattr(container, method)() for container in args[:3]), *args[3:])


def answer_below(attention, args, kw, decision: Decision | None, previous, host, name: str) -> torch.Tensor:
    """What the override `previous` gives, called as `attention`; the host's own where it raises, from then on.

    Should it ask a router of ours below it, `decision` learns that the call was that one's. Without a decision no
    rule is in force, and everything is as without us. host: the host's own function. name: what the report calls it.
    """
    if decision is None:
        return answer(attention, args, kw)
    if decision.lost is None:
        caller = (kw.get("transformer_options") or _NOTHING).get(CALLER)
        above = None if caller is None else caller.above
        if caller is not None:
            caller.above = decision
        try:
            return answer(attention, args, kw)
        except Exception as error:
            if isinstance(error, tuple(_PASSING)) or not _whole(args):
                raise
            decision.lost = owner_of(previous), error_text(error)
            free_frames(error)
        finally:
            if caller is not None:
                caller.above = above
        decision.used = name if decision.calls <= 1 else f"{decision.used}, then {name}"
    decision.without += 1
    return answer(host, args if isinstance(args[0], torch.Tensor) else each(args, "take"), kw)


def _whole(args) -> bool:
    """Whether q, k and v are still there."""
    if isinstance(args[0], torch.Tensor):
        return True
    try:
        each(args, "peek")
    except RuntimeError:
        return False
    return True
