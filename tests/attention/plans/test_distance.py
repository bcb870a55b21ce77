"""How far outputs are apart, however large they are and however many parts they have."""

from __future__ import annotations

import math

import pytest
import torch

from attention.plans import distance as distances


def test_relative_to_all_parts_together():
    truth = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    out = [torch.tensor([3.0, 1.0]), torch.tensor([[4.0]])]
    assert distances.distance(out, truth) == pytest.approx(0.2)
    assert distances.distance(truth, truth) == 0.0


def test_beside_nothing_the_distance_itself():
    assert distances.distance([torch.tensor([3.0, 4.0])], [torch.zeros(2)]) == pytest.approx(5.0)


def test_squares_that_no_float32_can_sum():
    """Each of the squares fits, their sum does not."""
    truth = [torch.full((8,), 1e19)]
    assert distances.distance([torch.zeros(8)], truth) == pytest.approx(1.0)
    assert distances.distance([truth[0] * 1.5], truth) == pytest.approx(0.5)


def test_halves_are_compared_as_float32():
    truth = [torch.full((1000,), 300.0, dtype=torch.float16)]
    assert distances.distance([truth[0] + 3.0], truth) == pytest.approx(0.01)


@pytest.mark.parametrize("count", [1, 7, 64, 65, 200])
def test_in_pieces_as_in_one(monkeypatch, count):
    out, truth = torch.randn(2, count), torch.randn(2, count)
    whole = distances.distance([out], [truth])
    monkeypatch.setattr(distances, "CHUNK", 64)
    assert distances.distance([out], [truth]) == pytest.approx(whole)
    assert whole == pytest.approx(((out - truth).norm() / truth.norm()).item(), rel=1e-5)


def test_nan_stays_and_lengths_must_agree():
    assert math.isnan(distances.distance([torch.tensor([math.nan])], [torch.ones(1)]))
    with pytest.raises(ValueError):
        distances.distance([torch.ones(1)], [torch.ones(1), torch.ones(1)])
