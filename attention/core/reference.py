"""Exact attention in plain torch, to read and to compare with.

Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762, section 3.2.
Letters: B batch, H heads, Lq and Lk tokens, D head size, C width of a token (H * D).
"""

from __future__ import annotations

import torch

from .gpu import widest
from .tensor_layout import expand_kv


def scaled_dot_product_attention(q, k, v, mask=None, scale: float | None = None) -> torch.Tensor:
    """Compute softmax(Q K^T * scale + mask) V, equation 1 of the paper: (B, H, Lq, Dv) in q's dtype.

    float16 and bfloat16 are computed in float32. A query that may see nothing returns zeros.

    q: (B, H, Lq, D), of any floating dtype.
    k: (B, Hkv, Lk, D), Hkv a divisor of H, else ValueError.
    v: (B, Hkv, Lk, Dv).
    mask: broadcasts to (B, H, Lq, Lk). Bool: True may be seen. Float: added to the scores.
    scale: factor of the scores; None: 1 / sqrt(D).
    """
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"q has {q.shape[1]} heads and k has {k.shape[1]}: the second must divide the first.")
    dtype = q.dtype
    wide = torch.promote_types(dtype, torch.float32)
    k, v = expand_kv(k, v, q.shape[1])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q.to(wide) @ k.to(wide).transpose(-2, -1) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = softmax(scores)
    return (weights @ v.to(wide)).to(dtype)


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Compute the softmax over the last axis; a row of -inf alone becomes zeros instead of NaN.

    scores: (..., Lk).
    """
    peak = scores.amax(dim=-1, keepdim=True) if scores.shape[-1] else scores.new_zeros(())
    weights = torch.exp(scores - torch.where(peak.isinf(), torch.zeros_like(peak), peak))
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def multi_head_attention(x, context, w_q, w_k, w_v, w_o, heads: int, mask=None) -> torch.Tensor:
    """Compute MultiHead(Q, K, V) of section 3.2.2: project, split into heads, attend, join, project: (B, Lq, C).

    x: tokens that ask, (B, Lq, C).
    context: tokens that are attended to, (B, Lk, Cc).
    w_q: (C, H*D).
    w_k: (Cc, H*D).
    w_v: (Cc, H*D).
    w_o: (H*D, C).
    heads: H.
    mask: as in scaled_dot_product_attention.
    """

    def split(t):
        return t.unflatten(-1, (heads, -1)).transpose(1, 2)

    out = scaled_dot_product_attention(split(x @ w_q), split(context @ w_k), split(context @ w_v), mask)
    return out.transpose(1, 2).flatten(2) @ w_o


def self_attention(x, w_q, w_k, w_v, w_o, heads: int, mask=None) -> torch.Tensor:
    """Compute multi_head_attention of every token of x: (B, L, C) to every token of x."""
    return multi_head_attention(x, x, w_q, w_k, w_v, w_o, heads, mask)


def cross_attention(x, context, w_q, w_k, w_v, w_o, heads: int, mask=None) -> torch.Tensor:
    """Compute multi_head_attention of x: (B, Lq, C) to context: (B, Lk, Cc), a text prompt for instance."""
    return multi_head_attention(x, context, w_q, w_k, w_v, w_o, heads, mask)


def relative_l2(out: torch.Tensor, truth: torch.Tensor) -> float:
    """Compute ||out - truth|| / ||truth|| in float64, where the device has it; 0.0 where both are empty or zero.

    Not cosine similarity: that keeps 0.9994 for an output scaled by 0.72.

    out: of any shape.
    truth: of the same shape; where it is zero the error is ||out||.
    """
    out, truth = out.to(widest(out.device)), truth.to(widest(truth.device))
    error, size = (out - truth).norm().item(), truth.norm().item()
    return error / size if size else error
