"""Rotary position tables over a (T, Y, X) token grid.

RoPE (arXiv:2104.09864) turns every pair of query and key channels by an angle that grows with the position, so a
dot product sees only the difference of two positions. LTX-Video (arXiv:2501.00103) uses three axes: seconds, pixel
rows and pixel columns, each divided by a largest position, and one ladder of frequencies shared by the axes.

Shapes: B batch, H heads, L = T*Y*X tokens, D head dim.
"""

import math

import torch
from torch import Tensor

# The host accepts another base in its config but builds its tables with this one.
ROPE_BASE = 10000.0


def token_positions(grid: tuple[int, int, int], scale: tuple[int, int, int], frame_rate: float, causal: bool) -> Tensor:
    """Return where each token starts, (L, 3): seconds, pixel row, pixel column.

    grid: (T, Y, X) tokens.
    scale: (frames, rows, columns) of pixels per token.
    frame_rate: frames a second.
    causal: whether the first latent frame holds one frame only.
    """
    steps = [torch.arange(size) * factor for size, factor in zip(grid, scale)]
    if causal:
        steps[0] = (steps[0] + 1 - scale[0]).clamp(min=0)
    t, y, x = torch.meshgrid(*(step.float() for step in steps), indexing="ij")
    return torch.stack((t * (1.0 / frame_rate), y, x), dim=-1).reshape(-1, 3)


def rotary_tables(
    positions: Tensor, max_pos: tuple[float, float, float], heads: int, head_dim: int
) -> tuple[Tensor, Tensor]:
    """Return cosines and sines for `positions` (L, 3), two tensors of (L, H, D/2).

    Pair j of all H*D/2 pairs turns with axis j % 3 and with frequency j // 3 of the ladder, so the first heads
    hold the slow frequencies and the last heads the fast ones. Pairs left over by the division by three come first
    and do not turn.
    """
    width = heads * head_dim
    ladder = ROPE_BASE ** torch.linspace(0.0, 1.0, width // 6, device=positions.device) * (math.pi / 2)
    fraction = positions / torch.tensor(max_pos, dtype=torch.float32, device=positions.device)
    angles = ((2 * fraction - 1)[:, None, :] * ladder[None, :, None]).flatten(1)
    angles = torch.nn.functional.pad(angles, (width // 2 - angles.shape[1], 0))
    angles = angles.reshape(-1, heads, head_dim // 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring channel pairs of x (B, L, H, D) by the tables (L, H, D/2); returns (B, L, H, D)."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1).flatten(-2)


def axial_tables(grid: tuple[int, int, int], pairs: tuple[int, int, int], base: float, head_dim: int, device=None):
    """Return cosines and sines for the tokens of `grid` (T, Y, X) in raster order, two tensors of (N, 1, D/2).

    The first pairs[0] channel pairs turn with the frame, the next pairs[1] with the row, the next pairs[2] with the
    column, and the rest do not turn. Pair i of n turns by base ** (-i / n) per token: equation 15 of arXiv:2104.09864,
    applied to each axis alone, as in most video transformers.
    """
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    ladders = (base ** -(torch.arange(n, device=device, dtype=torch.float32) / max(n, 1)) for n in pairs)
    angles = torch.cat([axis.reshape(-1, 1) * ladder for axis, ladder in zip(axes, ladders)], dim=-1)
    angles = torch.nn.functional.pad(angles, (0, head_dim // 2 - angles.shape[1]))[:, None]
    return angles.cos(), angles.sin()


def timestep_features(timestep: Tensor, channels: int = 256) -> Tensor:
    """Return cosines then sines of geometrically spaced frequencies, (B, channels).

    timestep: (B,).
    """
    half = channels // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, device=timestep.device, dtype=torch.float32) / half)
    angles = timestep.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
