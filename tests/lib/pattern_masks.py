"""Patterns whose mask is known beforehand, and that mask over every pair of tokens."""

from __future__ import annotations

from math import prod

import torch
from hypothesis import strategies as st

from attention import patterns as p

SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 9])
GRIDS = st.tuples(SIZES, SIZES, SIZES)
PERCENT = st.integers(1, 100)
SIMPLE = st.one_of(
    st.just(p.Spatial()),
    st.just(p.Temporal()),
    st.builds(p.TemporalWindow, st.integers(1, 12)),
    st.builds(p.SlidingTile, st.integers(1, 12), PERCENT, PERCENT, st.tuples(*[st.integers(1, 4)] * 3)),
    st.builds(p.Neighbourhood, st.integers(1, 12), PERCENT, PERCENT),
    st.builds(p.Radial, PERCENT, st.integers(1, 3), st.integers(1, 20), st.booleans()),
)
SOME = st.lists(SIMPLE, min_size=1, max_size=3).map(tuple)
COMBINED = st.one_of(st.builds(p.Union, SOME), st.builds(p.Intersection, SOME))
FIXED = st.one_of(SIMPLE, COMBINED, st.builds(p.Intersection, st.tuples(COMBINED, SIMPLE)), st.just(p.Factorised()))


def dense(pattern, grid):
    index = torch.arange(prod(grid))
    seen = p.on(pattern, grid).mask_mod(0, 0, index[:, None], index[None, :])
    assert seen.dtype == torch.bool
    return seen
