"""The FlashAttention packages' functions, played by one of their shapes: (B, L, H, D) in and out."""

from __future__ import annotations

import pytest
import torch

from attention.backends import flash
from attention.core.reference import relative_l2, scaled_dot_product_attention


@pytest.mark.parametrize("more", [False, True], ids=["output", "output and log-sum-exp"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_tokens_come_before_heads(scale, more):
    def flash_attn_func(q, k, v, softmax_scale=None):
        assert (q.shape, k.shape, v.shape) == ((2, 5, 6, 8), (2, 7, 3, 8), (2, 7, 3, 8))
        heads = [each.transpose(1, 2) for each in (q, k, v)]
        heads[1:] = [each.repeat_interleave(2, dim=1) for each in heads[1:]]
        out = scaled_dot_product_attention(*heads, None, softmax_scale).transpose(1, 2)
        return (out, None) if more else out

    q, k, v = torch.randn(2, 6, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    out = flash.kernel(flash_attn_func)(q, k, v, scale=scale)
    weights = (q @ k.repeat_interleave(2, dim=1).mT * (8**-0.5 if scale is None else scale)).double().softmax(-1)
    assert relative_l2(out, weights @ v.repeat_interleave(2, dim=1).double()) < 1e-6
