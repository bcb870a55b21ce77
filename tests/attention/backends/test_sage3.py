"""SageAttention 3's function, played by one that behaves as its source reads: it takes the keys' mean from them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import torch

from attention.backends import sage3
from attention.core.reference import relative_l2, scaled_dot_product_attention


def test_all_tokens_are_seen_and_the_keys_stay_as_they_are(monkeypatch):
    def sageattn3_blackwell(q, k, v, attn_mask=None, is_causal=False):
        assert all(each.is_contiguous() for each in (q, k, v)) and q.shape[:2] == k.shape[:2] == v.shape[:2]
        k -= k.mean(2, keepdim=True)
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril() if is_causal else None
        return scaled_dot_product_attention(q, k, v, mask if mask is None else mask[None, None])

    monkeypatch.setitem(sys.modules, "sageattn3", SimpleNamespace(sageattn3_blackwell=sageattn3_blackwell))
    q, k, v = (torch.randn(2, 9, heads, 16).transpose(1, 2) for heads in (6, 3, 3))
    before = k.clone()
    out = sage3.load()(q, k, v)
    keys, values = (each.repeat_interleave(2, dim=1).double() for each in (k, v))
    assert torch.equal(k, before)
    assert relative_l2(out, (q.double() @ keys.mT * 0.25).softmax(-1) @ values) < 1e-5
