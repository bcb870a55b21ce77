"""Tokens and places, orders as permutations, the grid cut into boxes."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.core import grid as g

SIZES = st.integers(1, 7)
GRIDS = st.tuples(SIZES, SIZES, SIZES)
TILES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=50)
@given(GRIDS)
def test_a_token_and_its_place(grid):
    frames, rows, columns = grid
    walk = [(t, y, x) for t in range(frames) for y in range(rows) for x in range(columns)]
    assert [g.coordinates(grid, i) for i in range(prod(grid))] == walk
    assert [g.index_of(grid, *place) for place in walk] == list(range(prod(grid)))
    assert torch.stack(g.coordinates(grid, torch.arange(prod(grid))), 1).tolist() == [list(place) for place in walk]


@settings(max_examples=60)
@given(GRIDS, TILES, st.sampled_from(g.ORDERS))
def test_an_order_is_a_permutation_and_its_inverse(grid, tile, name):
    permutation, inverse = g.order(grid, name, tile)
    raster = torch.arange(prod(grid))
    assert permutation.sort().values.equal(raster)
    assert permutation[inverse].equal(raster) and inverse[permutation].equal(raster)
    assert g.order(grid, name, tile)[0] is permutation, "made twice"


@settings(max_examples=60)
@given(GRIDS, TILES)
def test_boxes_hold_every_token_once(grid, tile):
    cut = g.boxes(grid, tile)
    held = torch.cat([g.tokens_of(grid, box) for box in cut])
    assert held.equal(g.order(grid, g.TILE, tile)[0])
    assert [g.size_of(box) for box in cut] == [len(g.tokens_of(grid, box)) for box in cut]
    for box in cut:
        t, y, x = g.coordinates(grid, g.tokens_of(grid, box))
        for axis, (start, stop) in zip((t, y, x), box):
            assert axis.min() == start and axis.max() == stop - 1


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_hilbert_steps_to_a_neighbour(bits):
    """What defines the curve: on a full power-of-two cube, two tokens in a row differ by one step along one axis."""
    grid = (1 << bits,) * 3
    walk = torch.stack(g.coordinates(grid, g.order(grid, g.HILBERT)[0]), 1)
    assert (walk.diff(dim=0).abs().sum(1) == 1).all()


def test_morton_takes_the_bits_in_turn():
    walk = torch.stack(g.coordinates((2, 2, 4), g.order((2, 2, 4), g.MORTON)[0]), 1).tolist()
    assert walk[:4] == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]] and walk[8] == [0, 0, 2]


@pytest.mark.parametrize("name", [g.TILE, g.MORTON, g.HILBERT])
def test_blocks_of_an_order_are_near(name):
    """64 tokens in a row span less of the grid than in raster order: what the orders are for."""

    def spread(name):
        walk = torch.stack(g.coordinates((16, 16, 16), g.order((16, 16, 16), name)[0]), 1).float()
        return walk.unflatten(0, (-1, 64)).std(dim=1).sum(dim=1).mean()

    assert spread(name) < 0.7 * spread(g.RASTER)


def test_an_unknown_order_is_named():
    with pytest.raises(ValueError, match="'zigzag' is not known. Known: raster, tile, morton, hilbert"):
        g.order((2, 2, 2), "zigzag")


@pytest.mark.parametrize(("percent", "length", "tokens"), [(0, 9, 1), (50, 9, 4), (100, 9, 9), (300, 9, 9), (33, 1, 1)])
def test_share(percent, length, tokens):
    assert g.share(percent, length) == tokens
