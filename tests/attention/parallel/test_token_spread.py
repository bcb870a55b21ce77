"""How tokens and heads are shared out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention.parallel.spread import Spread, cut, cut_heads

WEIGHTS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8)


@given(st.integers(0, 100_000), WEIGHTS)
def test_parts_add_up_and_are_near_their_share(total, weights):
    parts = cut(total, weights)
    assert sum(parts) == total and len(parts) == len(weights) and min(parts) >= 0
    assert all(abs(part - total * w / sum(weights)) <= 1 for part, w in zip(parts, weights))


@given(st.integers(1, 10_000), st.integers(1, 8))
def test_even_parts_differ_by_one_at_most(total, ranks):
    parts = cut(total, [1.0] * ranks)
    assert max(parts) - min(parts) <= 1 and list(parts) == sorted(parts, reverse=True)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_queries_stay_with_their_keys(key_heads, group, ranks):
    heads, keys = cut_heads(key_heads * group, key_heads, [1.0] * ranks)
    assert sum(heads) == key_heads * group and sum(keys) == key_heads
    assert all(q == k * group for q, k in zip(heads, keys))


@pytest.mark.parametrize("before", [0, 7])
def test_every_token_is_somebodys(before):
    spread = Spread((5, 4, 4), before)
    x = torch.arange(spread.length).view(1, -1, 1)
    parts = [spread.part(x, rank)[0, :, 0].tolist() for rank in range(3)]
    assert all(part[:before] == list(range(before)) and len(part) == spread.local(r) for r, part in enumerate(parts))
    assert sum((part[before:] for part in parts), []) == list(range(before, spread.length))
    assert [part[before] for part in parts] == [spread.start(rank) for rank in range(3)]
