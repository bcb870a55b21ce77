"""Normalised attention guidance (https://arxiv.org/abs/2505.21179): a negative prompt inside attention to the prompt.

It needs no second model call, so it works where CFG does not: with distilled models at cfg 1. Both prompts go through
the model behind one another as one prompt; attention to them is split where they meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..core.error_handling import try_twice
from ..core.precision import downcast, upcast
from ..core.site import AUDIO_CROSS, CROSS

NAME = "Normalised attention guidance"
IN_PARTS = "another node runs attention to the prompt in parts of the batch, whose prompts cannot be told"
# Numbers that are held in float32 at once.
PIECE = 1 << 24
ROLES = (CROSS, AUDIO_CROSS)


class PromptPair(NamedTuple):
    """How the prompt of one model call was lengthened.

    first: tokens of the prompt that belongs there.
    second: tokens of the negative one behind it.
    positive: for each prompt of the batch, whether it is a positive one.
    batch: rows of the model call, the same number for each prompt.
    """

    first: int
    second: int
    positive: tuple[bool, ...]
    batch: int

    @property
    def length(self) -> int:
        """Count the tokens of both prompts."""
        return self.first + self.second

    def knows(self, rows: int) -> bool:
        """Tell whether it is known which of a call's `rows` belong to a positive prompt.

        Another node may run such calls in parts of the batch, and nothing in a part says which it is.
        """
        return rows == self.batch or all(self.positive)


@dataclass(frozen=True)
class Nag:
    """What a user asks of this guidance.

    scale: how far away from the negative prompt; 1 is off.
    tau: how much larger than before the guided features may be, in their L1 norm.
    alpha: how much of them is mixed in; 0 is off.
    """

    scale: float = 11.0
    tau: float = 2.5
    alpha: float = 0.25

    @property
    def idle(self) -> bool:
        """Tell whether it changes nothing."""
        return self.scale == 1.0 or self.alpha == 0.0

    def guide(self, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        """Guide what attention to the positive prompt gave by what attention to the negative one gave.

        positive: (B, L, H*D) or (B, H, L, D). The norm is over a token's H*D channels.
        negative: of the same shape.
        """
        out, axis = torch.empty_like(positive), positive.ndim - 2
        # In pieces: a long clip's features in float32 are gigabytes.
        step = max(1, PIECE * positive.shape[axis] // max(1, positive.numel()))
        parts = (t.split(step, axis) for t in (out, positive, negative))
        for into, own, other in zip(*parts, strict=True):
            into.copy_(downcast(self._guided(*upcast(own, other)), out.dtype))
        return out

    def _guided(self, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        guided = self.scale * positive - (self.scale - 1.0) * negative
        axes = -1 if positive.ndim == 3 else (1, 3)
        before = positive.abs().sum(axes, keepdim=True).clamp(min=1e-6)
        ratio = guided.abs().sum(axes, keepdim=True) / before
        guided = guided * (self.tau / ratio.clamp(min=self.tau))
        return self.alpha * guided + (1.0 - self.alpha) * positive


def attend_apart(call, pair: PromptPair, nag: Nag | None, attend: Callable, stats, alone: bool = True) -> torch.Tensor:
    """Attend to a prompt and to the negative one behind it as two calls, and guide the first by the second.

    call: an open AttentionCall of routing, whose keys are the tokens of both.
    pair: how the prompt was lengthened.
    nag: of the rule that covers the call; None where none does, and then only the first prompt is attended to.
    attend: answers one call, as the host wants it.
    stats: RunStats, which learn what was spent and what was left as it is.
    alone: as of try_twice.
    """
    axis = 2 if call.split_in else 1

    def to_prompt(start: int, length: int, keep: Callable) -> torch.Tensor:
        k, v = (keep(t.narrow(axis, start, length)) for t in (call.k, call.v))
        mask = keep(mask_columns(call.mask, slice(start, start + length), pair.length))
        return attend(call.but(q=keep(call.q), k=k, v=v, mask=mask))

    out = to_prompt(0, pair.first, lambda t: t)
    if nag is None or nag.idle:
        return out
    batch, positive = call.q.shape[0], pair.positive
    if not pair.knows(batch):
        stats.leave(NAME, "attention call", IN_PARTS)
        return out

    def guided() -> torch.Tensor:
        other = to_prompt(pair.first, pair.second, lambda t: positive_rows(t, positive, batch))
        return replace_rows(out, nag.guide(positive_rows(out, positive, batch), other), positive)

    found = try_twice(guided, out.device, alone)
    if isinstance(found, torch.Tensor):
        stats.spend(NAME, "attention call")
        return found
    # The prompt's own attention stands.
    stats.leave(NAME, "attention call", found)
    return out


def mask_columns(mask: torch.Tensor | None, keys: slice, length: int) -> torch.Tensor | None:
    """Return the columns `keys` of a mask (..., length or 1)."""
    return mask if mask is None or mask.shape[-1] != length else mask[..., keys]


def positive_rows(t: torch.Tensor | None, positive: tuple[bool, ...], batch: int) -> torch.Tensor | None:
    """Return the positive prompts' share of a batch; t itself where all are, or where its first axis is no batch."""
    if t is None or all(positive) or t.shape[0] != batch:
        return t
    wanted = [i for i, yes in enumerate(positive) if yes]
    return t.unflatten(0, (len(positive), -1))[wanted].flatten(0, 1)


def replace_rows(out: torch.Tensor, guided: torch.Tensor, positive: tuple[bool, ...]) -> torch.Tensor:
    """Return `out` (B, ...) with the positive prompts' share replaced by `guided`."""
    if all(positive):
        return guided
    pieces = iter(guided.chunk(sum(positive)))
    return torch.cat([next(pieces) if yes else own for own, yes in zip(out.chunk(len(positive)), positive)])
