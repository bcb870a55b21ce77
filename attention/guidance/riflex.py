"""RIFLEx (https://arxiv.org/abs/2502.15894): clips longer than the model was trained on that do not begin anew.

Of the frequencies that turn queries and keys by their frame, one has a period near the length at which clips begin to
repeat. Slowed down so that the longer clip stays within nine tenths of its period, it repeats no more.
"""

from __future__ import annotations

import math

import torch

NAME = "RIFLEx"
WITHIN = 0.9


def slowed(frames: int) -> float:
    """Radians per frame, so that `frames` stay within nine tenths of a turn."""
    return WITHIN * 2.0 * math.pi / frames


def turn(matrices: torch.Tensor, positions: torch.Tensor, frequency: int, frames: int) -> torch.Tensor:
    """matrices: (..., L, F, 2, 2) rotations, time's frequencies first. positions: (..., L) along time.

    A copy with rotation number `frequency` (from 1) slowed down for a clip of `frames`.
    """
    angle = positions.float() * slowed(frames)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    out = matrices.clone()
    out[..., frequency - 1, :, :] = turned.to(out.dtype)
    return out
