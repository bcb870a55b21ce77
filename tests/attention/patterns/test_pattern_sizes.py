"""Sizes in a user's units as tokens: an axis at 100 percent is whole, less is to the nearest, the preview says so."""

from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import patterns as p
from attention.core import grid as g
from attention.inspect.draw_pattern import describe
from attention.patterns import blocks
from attention.patterns.spec import relation_of
from attention.sparse import engine_registry

torch.set_num_threads(1)

# (T, Y, X) of tokens at usual sizes: LTX (32 pixels, 8 frames), Wan, HunyuanVideo, CogVideoX, Kandinsky and Cosmos (16
# pixels, 4 frames), Wan 5B (32 pixels), Mochi, MiniMax H3, SVD; landscape, portrait, square, one frame.
REAL = (
    (13, 16, 24), (16, 11, 20), (16, 22, 40), (13, 14, 24), (31, 17, 30), (21, 30, 52), (21, 52, 30), (21, 45, 80),
    (21, 32, 32), (31, 45, 80), (33, 45, 80), (1, 45, 80), (31, 22, 40), (31, 44, 80), (13, 30, 45), (21, 48, 85),
    (31, 32, 48), (28, 30, 53), (21, 24, 43), (20, 48, 84), (14, 72, 128), (25, 36, 64), (16, 88, 160), (5, 1, 3),
)  # fmt: skip
ANY = st.tuples(st.integers(1, 40), st.integers(1, 170), st.integers(1, 170))


def whole_ones(grid):
    """Every pattern with sizes, at 100 percent of the picture and as long as the clip, and a little longer."""
    for frames in (grid[0], grid[0] + 1, 100_000):
        yield from (p.SlidingTile(frames, 100, 100, tile) for tile in ((4, 8, 8), (1, 1, 1), (3, 5, 7), (50, 200, 2)))
        yield p.Neighbourhood(frames, 100, 100)
        yield p.TemporalWindow(frames)
        yield from (p.Radial(100, frames, step, first) for step in (1, 192, 10**6) for first in (True, False))


def assert_all_is_whole(grid):
    for pattern in whole_ones(grid):
        relation = relation_of(pattern, grid)
        assert relation.is_dense and relation.density == 1.0, (pattern, grid)
        assert engine_registry.is_dense(pattern, grid)
        assert (
            p.Union((p.Spatial(), pattern)).on(grid).is_dense and p.Intersection((pattern, pattern)).on(grid).is_dense
        )
        last = torch.tensor(prod(grid) - 1)
        assert relation.mask_mod(0, 0, torch.tensor([0, 0, last]), torch.tensor([last, 0, 0])).all()


@pytest.mark.parametrize("grid", REAL, ids=str)
def test_all_of_an_axis_is_all_of_it_on_real_grids(grid):
    assert_all_is_whole(grid)


@settings(max_examples=40)
@given(ANY)
def test_all_of_an_axis_is_all_of_it(grid):
    assert_all_is_whole(grid)


@pytest.mark.parametrize("pattern", [p.TopBlocks(100), p.MassBlocks(100), p.MassBlocks(100, by_heads=(100.0, 100.0))])
def test_all_blocks_are_all_blocks(pattern):
    assert engine_registry.is_dense(pattern, (5, 7, 9))
    torch.manual_seed(0)
    # One block has all the attention: the sum of the others' rounded weights is past 1 long before the last.
    q, k = torch.randn(2, 1, 2, 64 * 40, 8)
    k[:, :, :64] *= 50
    assert blocks.select_blocks(pattern, q, k).all()


@settings(max_examples=200)
@given(st.integers(1, 170), st.integers(1, 20), st.floats(0.1, 100))
def test_a_window_of_tiles_is_the_nearest(length, step, percent):
    """As near to what was asked as whole tiles can be, and never more than half a tile away but for the first."""
    size = g.share(percent, length)
    steps = g.steps_of(size, length, step)
    assert 1 <= steps <= -(-length // step)
    assert steps * step >= length if size == length else abs(steps * step - size) <= max(step / 2, step - size)


@settings(max_examples=200)
@given(st.integers(1, 3000), st.integers(1, 1000))
def test_kept_blocks_are_counted_exactly(blocks_there, tenths):
    assert p.TopBlocks(tenths / 10).number(blocks_there) == max(1, -(-blocks_there * tenths // 1000))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (p.SlidingTile(12, 100, 50), "window of 12 of 21 frames (3 of 6 tiles), 30 of 30 rows (4 of 4 tiles), "
         "24 of 52 columns (3 of 7 tiles)"),
        (p.Neighbourhood(30, 10, 100), "window of 21 of 21 frames, 3 of 30 rows, 52 of 52 columns"),
        (p.TemporalWindow(5), "window of 5 of 21 frames, 30 of 30 rows, 52 of 52 columns"),
        (p.Radial(100, 1, 104), "of 30 rows at a distance of 0, 1, 2 ... frames: 30, 30, 16, 16, 8, 8, 8, 8, 4 ..."),
        (p.TopBlocks(20, by_heads=(20.0, 10.0)), "103, 52 of 512 blocks of 64 keys, and each block's own"),
        (p.Union((p.Spatial(), p.TemporalWindow(3))),
         "temporal window: window of 3 of 21 frames, 30 of 30 rows, 52 of 52 columns"),
    ],
    ids=lambda case: getattr(case, "name", ""),
)  # fmt: skip
def test_the_preview_says_what_sizes_became(pattern, words):
    assert f"Sizes in tokens: {words}" in describe(pattern, (21, 30, 52))


def test_the_preview_of_patterns_without_sizes():
    for pattern in (p.Spatial(), p.Factorised(), p.MassBlocks(), p.Union((p.Spatial(), p.Temporal()))):
        assert not any(line.startswith("Sizes") for line in describe(pattern, (21, 30, 52)))
