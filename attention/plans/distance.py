"""How far outputs are apart, however large they are and however many parts they have."""

from __future__ import annotations

import math

import torch

from ..core.gpu import widest

# Numbers that are worked on at once.
CHUNK = 1 << 24


def distance(out: list[torch.Tensor], truth: list[torch.Tensor]) -> float:
    """Compute the relative L2 of several tensors together, in float32, CHUNK numbers at a time; NaN stays NaN."""
    error, size = squares(out, truth)
    return math.sqrt(error / size) if size else math.sqrt(error)


def squares(out: list[torch.Tensor], truth: list[torch.Tensor]) -> tuple[float, float]:
    """Compute the sums of squares of out - truth and of truth."""
    error = size = 0.0
    for a, b in zip(out, truth, strict=True):
        for piece, whole in zip(a.reshape(-1).split(CHUNK), b.reshape(-1).split(CHUNK), strict=True):
            whole = whole.float()
            wide = widest(whole.device)
            error += (piece.float() - whole).square().sum(dtype=wide).item()
            size += whole.square().sum(dtype=wide).item()
    return error, size
