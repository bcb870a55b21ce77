"""Forms and textures of scenes, as functions of a point in a shape's own axes.

Shapes: any `...` that the points have; F forms in the order of scene_prompt.FORMS. Distances are in frame widths.
"""

import math

import torch
from torch import Tensor


def turn(down: Tensor, right: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """A point along a shape's axis and across it, by its offset from the centre and the angle's cosine and sine."""
    return cos * right + sin * down, cos * down - sin * right


def measure_distances(along: Tensor, across: Tensor, radius: Tensor) -> Tensor:
    """How far inside the edge of each form a point is (negative outside), (..., F).

    along, across: (...), the point, from the shape's centre along its axis and across it.
    radius: (...) or less.
    """
    far = (along.square() + across.square()).sqrt()
    square = 0.88 * radius - torch.maximum(along.abs(), across.abs())
    triangle = 0.66 * radius - torch.maximum(-along, 0.5 * along + math.sqrt(0.75) * across.abs())
    ring = 0.36 * radius - (far - 0.74 * radius).abs()
    return torch.stack((radius - far, square, triangle, ring), -1)


def draw_textures(along: Tensor, across: Tensor, radius: Tensor) -> Tensor:
    """A field that is zero along the lines of each form's texture, stripes or checks: (..., F), of points as above."""
    near = torch.exp(-((along.square() + across.square()) / (1.4 * radius).square()).square())
    stripes = torch.cos(2 * math.pi / 0.95 * along / radius) * near
    checks = torch.sin(math.pi / 0.95 * along / radius) * torch.sin(math.pi / 0.95 * across / radius) * 1.4 * near
    return torch.stack((stripes, checks, checks, stripes), -1)
