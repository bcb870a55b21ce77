"""Fresh random q, k, v that look like a video's: neighbours in space and time are alike, keys share a common part."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .shapes import Shape

# Part of the variance that neighbours share, and size of what all keys have in common, as seen in video transformers.
SHARED, COMMON = 0.7, 1.5


def draw(shape: Shape, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k, v: (1, H, L, D)."""
    q, k, v = (_field(shape, device) for _ in range(3))
    k += COMMON * torch.randn(1, shape.heads, 1, shape.head_dim, device=device)
    return q.to(dtype), k.to(dtype), v.to(dtype)


def _field(shape: Shape, device: torch.device) -> torch.Tensor:
    channels = shape.heads * shape.head_dim
    coarse = [max(1, n // 4) for n in shape.grid]
    smooth = F.interpolate(torch.randn(1, channels, *coarse, device=device), size=shape.grid, mode="trilinear")
    smooth = smooth / smooth.std()
    field = SHARED**0.5 * smooth + (1 - SHARED) ** 0.5 * torch.randn_like(smooth)
    field = field.flatten(2).unflatten(1, (shape.heads, shape.head_dim)).transpose(2, 3)
    text = torch.randn(1, shape.heads, shape.text, shape.head_dim, device=device)
    return torch.cat([text, field], dim=2).contiguous()
