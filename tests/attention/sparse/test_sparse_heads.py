"""A number for each group of heads: every head sees what it would see alone, with its own number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_calls import draw, first_runner, place_of

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.inspect.draw_pattern import describe as in_words
from attention.patterns import blocks
from attention.patterns.density import density, flop_ratio
from attention.sparse import autotune, engine_registry, own_triton

GRID = (5, 8, 16)
NUMBERS = st.lists(st.sampled_from([5.0, 12.5, 30.0, 55.0, 100.0]), min_size=2, max_size=2)


def kinds(number: float, **more):
    return p.TopBlocks(number, **more), p.MassBlocks(number, **more)


def run(pattern, tensors, video_span, engine="blocks"):
    runner = first_runner(pattern, video_span, describe(*tensors, None), engine=engine)
    assert not isinstance(runner, Reason), runner
    return runner(*tensors)


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("number", [12.5, 40.0])
def test_equal_numbers_are_one_number(number, tail):
    video_span, tensors = place_of(GRID, 9), draw(place_of(GRID, 9), heads=4, kv_heads=2)
    for one, by_heads in zip(kinds(number, tail=tail), kinds(number, tail=tail, by_heads=(number, number))):
        assert torch.equal(run(one, tensors, video_span), run(by_heads, tensors, video_span))
        assert flop_ratio(one, GRID, 9) == flop_ratio(by_heads, GRID, 9)


@settings(max_examples=10)
@given(NUMBERS, st.booleans(), st.integers(0, 99))
def test_every_head_equals_a_run_of_it_alone(numbers, tail, seed):
    video_span = place_of(GRID, 9)
    q, k, v = draw(video_span, heads=4, kv_heads=4, seed=seed)
    for pattern in kinds(max(numbers), tail=tail, by_heads=tuple(numbers)):
        if engine_registry.is_dense(pattern, GRID):
            continue
        out, chosen = run(pattern, (q, k, v), video_span), blocks.select_blocks(pattern, q, k)
        for head in range(4):
            alone = type(pattern)(numbers[head // 2], tail=tail)
            one = tuple(t[:, head : head + 1] for t in (q, k, v))
            assert torch.equal(chosen[:, head : head + 1], blocks.select_blocks(alone, *one[:2]))
            if not engine_registry.is_dense(alone, GRID):
                assert relative_l2(out[:, head : head + 1], run(alone, one, video_span)) < 1e-6


def test_density_is_the_mean_of_the_groups():
    pattern = p.TopBlocks(60, by_heads=(60, 20, 10, 10))
    assert density(pattern, GRID) == pytest.approx(0.25)
    assert density(p.TopBlocks(100, tail=True, by_heads=(100, 20)), GRID) == pytest.approx((1 + 0.2 + 1 / 64) / 2)
    assert "Groups of heads, keep in percent: 60, 20, 10, 10" in in_words(pattern, GRID)
    assert any("Density: 25.0%" in line for line in in_words(pattern, GRID))


def test_one_group_of_all_blocks_is_not_dense():
    q, k, v = draw(place_of(GRID))
    assert not engine_registry.is_dense(p.TopBlocks(100, by_heads=(100, 5)), GRID)
    assert "is dense" in first_runner(p.TopBlocks(100, by_heads=(100, 100)), place_of(GRID), describe(q, k, v, None))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="by_heads: 30 is more than keep, which is 20"):
        p.TopBlocks(20, by_heads=(20, 30))
    with pytest.raises(ValueError, match="by_heads: 90 is more than mass, which is 80"):
        p.MassBlocks(by_heads=(90,))
    tensors = draw(place_of(GRID), heads=4, kv_heads=4)
    reason = first_runner(p.TopBlocks(by_heads=(20, 10, 5)), place_of(GRID), describe(*tensors, None))
    assert reason == "4 heads, the pattern is for 3 groups of equal numbers of them"


def test_the_pack_s_own_kernel_gets_the_same_blocks():
    q, k, _ = draw(place_of((4, 16, 16)), dim=64)
    pattern = p.TopBlocks(50, by_heads=(50, 10))
    kept = blocks.select_blocks(pattern, q, k)
    made = own_triton.lists_of_selection(pattern, kept, q.shape[2], 0)
    listed = torch.zeros_like(kept)
    for head in range(2):
        for row in range(kept.shape[2]):
            listed[0, head, row, made.index[0, head, row, : made.count[0, head, row, 1]].long()] = True
    assert torch.equal(listed, kept)


def test_the_choice_of_an_engine_tries_it_on_all_its_heads():
    tensors = draw(place_of(GRID), heads=4, kv_heads=2)
    runner = first_runner(p.TopBlocks(20, by_heads=(20, 10)), place_of(GRID), describe(*tensors, None))
    sample, fixed = autotune.spot_check_of(*tensors, runner)
    assert not fixed and sample.rows.shape[:2] == (1, 4) and sample.error_of_run(lambda: runner(*tensors)) > 0
