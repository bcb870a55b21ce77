"""The memory that a call takes: counted on a CPU, the allocator's peak on a GPU, here a stand-in for one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attention.backends.sdpa import math
from attention.core.peak_memory import AllocationCounter, RunPeak, in_mib, peak_of, unseen
from attention.core.reference import scaled_dot_product_attention

torch.set_num_threads(1)
CPU, MIB = torch.device("cpu"), 1 << 20


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("inference", [True, False])
def test_it_counts_what_lives_at_once(device, inference):
    with torch.inference_mode(inference):
        given = torch.zeros(1 << 18, device=device)

        def run():
            total = given * 2  # 1 MiB
            total.add_(1)
            for _ in range(3):
                total = total + total[:].view(-1)  # the old one and the new one
            return total[: 1 << 10]

        assert peak_of(run, given.device)[1] == 2 * MIB
        assert peak_of(lambda: given[3:].view(-1), given.device)[1] == 0


def test_it_forgets_what_is_gone():
    with AllocationCounter() as counter:
        kept = torch.zeros(MIB, dtype=torch.uint8)
        for _ in range(5):
            torch.zeros(MIB, dtype=torch.uint8)
        counter.prune()
        assert (counter.live, counter.peak) == (MIB, 2 * MIB)
    assert kept.numel() == MIB


@pytest.mark.parametrize("kernel", [scaled_dot_product_attention, math])
def test_scores_are_seen_in_torchs_own_operators_too(kernel):
    q = torch.randn(1, 2, 512, 16)
    scores = 2 * 512 * 512 * 4
    with torch.inference_mode():
        out, peak = peak_of(lambda: kernel(q, q, q), CPU)
    assert out.shape == q.shape and 2 * scores <= peak < 4 * scores


class Allocator:
    """Stands in for torch.cuda: the figures of one device, moved by what a test runs."""

    def __init__(self):
        self.now, self.most = 100 * MIB, 900 * MIB

    def take(self, more):
        self.now += more
        self.most = max(self.most, self.now)

    def memory_allocated(self, device):
        return self.now

    def max_memory_allocated(self, device):
        return self.most

    def reset_peak_memory_stats(self, device):
        self.most = self.now


def test_a_gpus_own_figures(monkeypatch):
    allocator, device = Allocator(), SimpleNamespace(type="accelerator")
    monkeypatch.setattr(torch, "accelerator", allocator, raising=False)

    def call():
        allocator.take(7 * MIB)
        allocator.take(-5 * MIB)
        return "out"

    run = RunPeak(device)
    with run:
        allocator.take(50 * MIB)  # weights: no part of it
        run.begin()
        allocator.take(300 * MIB)
        allocator.take(-300 * MIB)
        run.begin()
        # A call's own peak starts the allocator's anew; the run's stays.
        assert peak_of(call, device) == ("out", 7 * MIB)
        assert peak_of(lambda: allocator.take(-2 * MIB), device)[1] == 0
    assert run.found == (150 * MIB, 300 * MIB)
    allocator.take(1 << 40)
    run.look()
    assert peak_of(call, device)[1] == 7 * MIB


def test_a_device_that_keeps_no_peak(monkeypatch):
    device = SimpleNamespace(type="slow")
    assert peak_of(lambda: "out", device) == ("out", None)
    for run in (RunPeak(device), RunPeak(None)):
        with run:
            run.begin()
        assert run.found is None


def test_a_run_that_fails_is_over(monkeypatch):
    allocator, device = Allocator(), SimpleNamespace(type="accelerator")
    monkeypatch.setattr(torch, "accelerator", allocator, raising=False)
    run = RunPeak(device)
    with pytest.raises(ValueError), run:
        run.begin()
        raise ValueError
    allocator.most = 1 << 50
    peak_of(lambda: None, device)
    assert run.bytes < 1 << 40


def test_words():
    assert [in_mib(size) for size in (0, MIB // 4, 3 * MIB, 12 * MIB, 1536 * MIB)] == ["0", "0.25", "3", "12", "1,536"]


def test_what_no_counter_may_see_has_no_peak():
    def run():
        with unseen():
            return torch.zeros(1000)

    out, peak = peak_of(run, torch.device("cpu"))
    assert out.shape == (1000,) and peak is None
    with unseen():
        assert torch.zeros(3).numel() == 3
