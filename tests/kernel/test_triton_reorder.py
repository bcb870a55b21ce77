"""Copies in another order, with their means, in Triton's interpreter: against reordering first, and against float64."""

from __future__ import annotations

import interpreted
import pytest
import torch
from triton_cases import INT8, bound_of

from attention.backends.triton import reorder
from attention.patterns.blocks import pool


@pytest.fixture(scope="module")
def results():
    return interpreted.run("triton_reorder.py")


def test_read_through_an_index_is_reordered_first(results):
    """To the bit; the means, and the blocks chosen by them, as torch has them."""
    assert [name for name, right in results["held"].items() if not right] == [] and len(results["held"]) > 45


def test_outputs(results):
    assert sum("float16 sums" in name or "pipelined" in name for name in results["errors"]) == 10
    assert {name: error for name, error in results["errors"].items() if not error < bound_of(name)} == {}


def test_torch_reorders_nothing_but_the_output(results):
    assert results["copied"] == [["index_select"]] * 2


def test_the_benchmark_runs_the_same(results):
    assert results["measured"]


def test_the_rotation_is_for_outlier_channels(results):
    assert results["rotation"]["True"] < INT8 and results["rotation"]["True"] < 0.6 * results["rotation"]["False"]


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128, 130, 200, 256])
def test_blocks_of_queries_are_joined(tokens):
    x = torch.randn(1, 2, tokens, 8)
    halves = pool(x, reorder.ROWS)[0]
    halves = torch.cat([halves, torch.full((1, 2, 1, 8), torch.nan)], dim=2)  # what lies behind the tokens
    whole, lengths = pool(x, reorder.QUERIES)
    torch.testing.assert_close(reorder.merge_means(halves, tokens), whole)
    assert reorder.block_sizes(tokens, reorder.QUERIES, x.device).equal(lengths)
