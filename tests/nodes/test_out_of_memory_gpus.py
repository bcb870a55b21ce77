"""Memory that is missing on one of several GPUs: the others do not wait for it, and the render finishes."""

from __future__ import annotations

import threading

import pytest
import torch
from gpus_here import WIDE, about_gpus, far, loud, on_gpus, sampled, stand_in, with_rules

from attention.routing.rules import Rule

EXACT = 1e-5


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


def missing(function, seen: list, times: int):
    """A function that has no memory the first times that a thread of another GPU calls it."""

    def run(*args, **named):
        if threading.current_thread() is not threading.main_thread() and len(seen) < times:
            seen.append(function)
            raise torch.OutOfMemoryError("CUDA out of memory (a test's)")
        return function(*args, **named)

    return run


@pytest.mark.parametrize("times", [1, 1 << 30])
def test_in_a_kernel(pack, monkeypatch, times):
    """That rank falls back by itself; what it trades is the same."""
    case, registry, seen = WIDE["Wan"], pack.attention.backends.registry, []
    registry.load_all()
    kernel = missing(registry.load("sdpa math"), seen, times)
    monkeypatch.setattr(registry, "_LOADED", {**registry._LOADED, "sdpa math": kernel})
    model = with_rules(pack, loud(case), Rule("sdpa math"))
    truth, _ = sampled(pack, with_rules(pack, loud(case), Rule("sdpa")), case)
    out, report = sampled(pack, on_gpus(pack, model, 2), case)
    assert seen and far(out, truth) < EXACT and "On 2 GPUs" in about_gpus(report)


@pytest.mark.parametrize("times", [1, 1 << 30])
def test_in_the_trade(pack, monkeypatch, times):
    """What lies over the GPUs cannot be put together: that evaluation is made on one of them, and counted."""
    case, seen = WIDE["Wan"], []
    peers = pack.attention.parallel.peers.ThreadPeers
    model = with_rules(pack, loud(case), Rule("sdpa"))
    truth, _ = sampled(pack, model, case)
    monkeypatch.setattr(peers, "all_to_all", missing(peers.all_to_all, seen, times))
    out, report = sampled(pack, on_gpus(pack, model, 2), case)
    assert seen and far(out, truth) < EXACT
    assert "memory was missing (OutOfMemoryError" in about_gpus(report)
