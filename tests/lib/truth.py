"""Attention in float64, written out, and how far from it rounding alone may lead a kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# A float mask hides a key with -inf or with a number near the lowest of its dtype.
HIDES = -1e4


@dataclass(frozen=True)
class Truth:
    """Float64, all (B, H, Lq, D). out: softmax(Q K^T * scale + mask) V. size: the same of |V|, which cannot cancel.

    spread: how far `out` moves when every score is off by its own size, each on its own: the condition of the softmax.
    A near tie of two huge scores has a large one, and no kernel can help it.
    """

    out: torch.Tensor
    size: torch.Tensor
    spread: torch.Tensor


def attention(q, k, v, mask=None, scale: float | None = None) -> Truth:
    """q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D); mask: of 2, 3 or 4 axes, bool, integer or float, as the host has it."""
    q, k, v = q.double(), k.double(), v.double()
    k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores, height = q @ k.mT * scale, q.abs() @ k.abs().mT * scale
    if mask is not None:
        mask = mask.reshape({2: (1, 1), 3: (len(mask), 1), 4: mask.shape[:2]}[mask.ndim] + mask.shape[-2:])
        hidden = mask < HIDES if mask.is_floating_point() else ~mask.bool()
        bias = mask.double().masked_fill(hidden, 0) if mask.is_floating_point() else 0.0
        scores, height = (scores + bias).masked_fill(hidden, -torch.inf), height + abs(bias)
    weights = scores.softmax(dim=-1)
    out, moved = weights @ v, (weights * height) ** 2
    spread = moved @ v**2 - 2 * out * (moved @ v) + out**2 * moved.sum(-1, keepdim=True)
    return Truth(out, weights @ v.abs(), spread.clamp(min=0).sqrt())


def excess(out, truth: Truth, size=None) -> float:
    """||out - truth|| over what rounding explains: below 1 for an exact kernel, whatever the inputs.

    That is one epsilon of out's dtype of `size` (truth.out unless given), for the weights and the output, and four of
    `spread` in float32 or wider, which is where every exact kernel keeps its scores.
    """
    epsilon = torch.finfo(out.dtype).eps
    size = truth.out if size is None else size
    scores = min(epsilon, torch.finfo(torch.float32).eps)
    explained = epsilon * size.norm() + 4 * scores * truth.spread.norm()
    return ((out.double() - truth.out).norm() / explained).item()
