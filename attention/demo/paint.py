"""How scenes look: two textured layers over a background, with sharp edges where smooth fields are zero.

Shapes: B batch, F frames, H, W pixels.
"""

import math

import torch
from torch import Tensor

TILES = 12  # of the background along a side
EDGE_PIXELS = 1.5  # the width of an edge
# How far from grey a colour is in the light and in the dark part of its texture, and the background's two greys.
LIGHT, DARK = 0.42, 0.24
GROUND = (0.46, 0.54)
# How fast the tone changes across a line of a texture and of the background.
TEXTURE_SLOPE, GROUND_SLOPE = 2.5, 2.0


def draw_ground(height: int, width: int, device=None) -> Tensor:
    """The background's field (H, W), zero along the lines of its tiles."""
    rows, columns = (
        torch.cos(2 * math.pi * TILES * ((torch.arange(size, device=device) + 0.5) / size)) for size in (height, width)
    )
    return (rows[:, None] + columns) / 2


def paint_layers(inside: Tensor, texture: Tensor, ground: Tensor, signs: Tensor, first: Tensor) -> Tensor:
    """Paint two textured layers over a background; returns (B, F, H, W, 3) in 0 to 1.

    inside: (B, 2, F, H, W), pixels from each shape's edge.
    texture: (B, 2, F, H, W), zero along the lines.
    ground: (..., H, W), zero along the lines.
    signs: (B, 2, 3, F, H, W), each colour's deviation from grey, -1 to 1.
    first: (B, F, H, W) or less, 1 where the first shape is in front.
    """
    cover = (0.5 + inside / EDGE_PIXELS).clamp(0, 1)[:, :, None]
    tone = (0.5 + TEXTURE_SLOPE * texture).clamp(0, 1)[:, :, None]
    paint = 0.5 + signs * (DARK + (LIGHT - DARK) * tone)
    light = (0.5 + GROUND_SLOPE * ground).clamp(0, 1)
    light = (GROUND[0] + (GROUND[1] - GROUND[0]) * light).expand(inside[:, 0].shape)[:, None]

    def over(back, front):
        below = torch.lerp(light, paint[:, back], cover[:, back])
        return torch.lerp(below, paint[:, front], cover[:, front])

    return torch.lerp(over(0, 1), over(1, 0), first[:, None]).movedim(1, -1)
