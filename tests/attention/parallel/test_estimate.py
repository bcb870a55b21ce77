"""Whether several GPUs are worth it: the formulas beside numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from attention.parallel import estimate

WAN = {"tokens": 75_600, "channels": 5120, "blocks": 40}


def test_bytes_of_wan_at_720p():
    """774, 581 and 339 MB a call with 2, 4 and 8 ranks."""
    for ranks, megabytes in ((2, 774), (4, 581), (8, 339)):
        assert estimate.bytes_traded(**WAN, ranks=ranks) / 40 / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_bytes_of_groups():
    """8 x 2: 266 MB a call; keys around alone send as many as heads with two ranks, and N / 2 times as many with N."""
    assert estimate.bytes_traded(**WAN, ranks=8, groups=2) / 40 / 1e6 == pytest.approx(266, rel=0.01)
    for ranks in (2, 4, 8):
        around = estimate.bytes_traded(**WAN, ranks=1, groups=ranks)
        assert around == pytest.approx(ranks / 2 * estimate.bytes_traded(**WAN, ranks=ranks))


def test_a_link_without_end_gives_as_many_times_as_ranks():
    assert estimate.speedup(1e15, 1e14, 1e9, 1e30, 4) == pytest.approx(4)
    # 10 s alone; 5 s and 5 s of trading are no gain.
    assert estimate.speedup(1e15, 1e14, 5e9, 1e9, 2) == pytest.approx(1)


def test_the_sentence(monkeypatch):
    monkeypatch.setattr(estimate, "link_between", lambda *_: 1e9)
    monkeypatch.setattr(estimate, "rate_of", lambda *_: 1e14)
    devices, half = [torch.device("cpu")] * 2, torch.bfloat16
    said = estimate.sentence(1e15, 1e9, devices, half)
    assert "about 1.7x as fast. Computed" in said and "go at 1 GB/s here" in said
    assert "each hands 1 GB to others" in said and "(100 TFLOPS)" in said
    assert "about 1.0x as fast: hardly worth it." in estimate.sentence(1e15, 5e9, devices, half)


def test_operations_of_a_product(monkeypatch):
    """A product of two square matrices takes a multiplication and an addition for each of side^3 terms."""
    monkeypatch.setattr(estimate, "seconds_of_product", lambda *_: (0.5, 1000))
    assert estimate.rate_of(torch.device("cpu"), torch.float32) == pytest.approx(4e9)


def test_this_machine_is_measured():
    cpu = torch.device("cpu")
    assert estimate.link_between(cpu, cpu) > 1e7 and estimate.rate_of(cpu, torch.float32) > 1e8
