"""Kernels for tests: exact, wrong, broken, greedy."""

from __future__ import annotations

import torch

SDPA = torch.nn.functional.scaled_dot_product_attention


def exact(q, k, v, mask=None, scale=None):
    return SDPA(q, k, v)


def wrong(q, k, v, mask=None, scale=None):
    return SDPA(q, k, v) * 1.05


def broken(q, k, v, mask=None, scale=None):
    raise RuntimeError("no such instruction")


def greedy(q, k, v, mask=None, scale=None):
    out = SDPA(q, k, v)
    k -= k.mean(dim=2, keepdim=True)  # as SageAttention does: the softmax does not change, the caller's keys do
    return out
