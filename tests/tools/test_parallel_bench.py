"""benchmarks/parallel.py: its model of a block, beside numbers worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks import parallel


def test_a_block_of_wan_at_720p():
    """4.68e15 operations in attention and 1.81e15 in products, for 40 blocks."""
    by_hand = (4.68e15 / 470e12 + 1.81e15 / 550e12) / 40 * 1e3
    assert parallel.gpu_milliseconds(75_600, "H100") == pytest.approx(by_hand, rel=0.03)


@pytest.mark.parametrize("card", parallel.CARDS)
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_size_is_where_a_part_of_a_block_takes_what_it_costs(ranks, card):
    tokens = parallel.tokens_from(5.0, ranks, card)
    assert parallel.gpu_milliseconds(tokens, card) / ranks == pytest.approx(5.0, rel=0.01)
