"""What a call is to the backends: every field of its Geometry."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from attention.core.geometry import Geometry, describe

Q, K = torch.zeros(2, 6, 5, 8), torch.zeros(2, 3, 7, 8)
PLAIN = {
    "batch": 2, "heads": 6, "kv_heads": 3, "q_len": 5, "kv_len": 7, "head_dim": 8, "dtype": torch.float32,
    "device": "cpu", "mask": "none", "scale": None, "low_precision": True, "high_precision": False,
    "capability": None, "grad": False, "amd": None,
}  # fmt: skip


def test_a_plain_call():
    assert asdict(describe(Q, K, K)) == asdict(Geometry(2, 6, 3, 5, 7, 8, torch.float32, "cpu")) == PLAIN


@pytest.mark.parametrize(
    ("asked", "changed"),
    [
        ({"scale": 0.3}, {"scale": 0.3}),
        ({"low_precision": False}, {"low_precision": False}),
        ({"precision": torch.float32}, {}),
        ({"precision": torch.float64}, {"dtype": torch.float64, "high_precision": True}),
        ({"mask": torch.zeros(1, 1, 1, 7)}, {"mask": "key"}),
        ({"mask": torch.zeros(2, 6, 1, 7)}, {"mask": "key"}),
        ({"mask": torch.zeros(1, 1, 5, 7)}, {"mask": "dense"}),
    ],
    ids=str,
)
def test_what_a_caller_asks_for_is_kept(asked, changed):
    assert asdict(describe(Q, K, K, **asked)) == PLAIN | changed


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_gradient_is_enough(which):
    given = [tensor.clone().requires_grad_(place == which) for place, tensor in enumerate((Q, K, K))]
    assert describe(*given).grad
    with torch.no_grad():
        assert not describe(*given).grad


def test_shapes_in_words():
    words = "2x6 heads (3 key heads), 5x7 tokens, head size 8, float32"
    assert describe(Q, K, K).shape_text == words
    assert describe(Q, Q, Q).shape_text == "2x6 heads, 5x5 tokens, head size 8, float32"
