"""RIFLEx (https://arxiv.org/abs/2502.15894): clips longer than the model was trained on that do not begin anew.

Of the frequencies that turn queries and keys by their frame, one has a period near the length at which clips begin to
repeat. Slowed down so that the longer clip stays within nine tenths of its period, it repeats no more.
"""

from __future__ import annotations

import math

import torch

NAME = "RIFLEx"
# Of the period of the slowed frequency: how much of it a clip may fill.
WITHIN = 0.9


def slowed_frequency(frames: int) -> float:
    """Return the radians per frame at which a clip of `frames` stays within nine tenths of a turn."""
    return WITHIN * 2.0 * math.pi / frames


def slow_rotations(matrices: torch.Tensor, positions: torch.Tensor, frequency: int, frames: int) -> torch.Tensor:
    """Return a copy of rotations with one frequency slowed down.

    matrices: (..., L, F, 2, 2), time's frequencies first.
    positions: (..., L) along time.
    frequency: number of the one to slow down, from 1.
    frames: of the clip.
    """
    angle = positions.float() * slowed_frequency(frames)
    cos, sin = angle.cos(), angle.sin()
    turned = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))
    out = matrices.clone()
    out[..., frequency - 1, :, :] = turned.to(out.dtype)
    return out
