"""Masks as torch's CUDA operators demand them, made on any machine."""

from __future__ import annotations

import pytest
import torch

from attention.backends import sdpa


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("keys", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (1, 3, 5), (2, 3, 5)])
def test_rows_of_a_mask_begin_on_steps_of_16_bytes(shape, keys, dtype):
    mask = torch.randn(*shape, keys).to(dtype)
    q, k = torch.empty(2, 3, 5, 8), torch.empty(2, 3, keys, 8)
    made = sdpa.aligned(mask, q, k)
    assert made.shape == (2, 3, 5, keys) and torch.equal(made, mask.expand(2, 3, 5, keys))
    assert made.stride(-1) == 1 and all(step * made.element_size() % 16 == 0 for step in made.stride()[:-1])


def test_no_mask_stays_none():
    assert sdpa.aligned(None, torch.empty(1, 1, 2, 8), torch.empty(1, 1, 2, 8)) is None


def test_a_mask_of_bools_becomes_what_is_added():
    q, mask = torch.empty(1, 1, 2, 8, dtype=torch.float16), torch.tensor([[[[True, False, True]]]])
    made = sdpa.additive(mask, q)
    assert made.dtype == q.dtype and made.flatten().tolist() == [0.0, -torch.inf, 0.0]
    numbers = torch.randn(1, 1, 1, 3)
    assert sdpa.additive(numbers, q) is numbers and sdpa.additive(None, q) is None
