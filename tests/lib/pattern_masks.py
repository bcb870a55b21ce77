"""Patterns with a fixed mask, of every row of the table that has one, and that mask over every pair of tokens."""

from __future__ import annotations

import pattern_rows
import pattern_truth
import torch
from hypothesis import strategies as st

from attention import patterns as p

SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 9])
GRIDS = st.tuples(SIZES, SIZES, SIZES)
SIMPLE = pattern_rows.any_of(pattern_rows.SIMPLE)
SOME = st.lists(SIMPLE, min_size=1, max_size=3).map(tuple)
FIXED = pattern_rows.any_of(tuple(row for row in p.TABLE if pattern_rows.is_fixed(row)))


def dense(pattern, grid):
    """The mask over every pair of tokens, (N, N), checked to be bool."""
    seen = pattern_truth.fixed(pattern, grid)
    assert seen.dtype == torch.bool
    return seen
