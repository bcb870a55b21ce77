"""Formulas around attention in float32 at least: in 16 bit their sums overflow or lose the small one of two numbers.

What float16 cannot hold becomes its largest number: an infinity ends as NaN a few operations later.
"""

from __future__ import annotations

import torch


def upcast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the tensors in float32, or as they are where they are wider."""
    return tuple(t.to(torch.promote_types(t.dtype, torch.float32)) for t in tensors)


def downcast(t: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return t in a narrower dtype, its infinities as the largest numbers of float16."""
    return clamp_finite_(t.to(dtype)) if t.dtype != dtype else t


def clamp_finite_(t: torch.Tensor) -> torch.Tensor:
    """Replace infinities by the largest numbers, in place, where t is float16; NaN stays NaN. Returns t."""
    if t.dtype == torch.float16:
        t.clamp_(-65504.0, 65504.0)
    return t
