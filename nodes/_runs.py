"""The reports of the last sampling runs, found again by the latent that a run gave."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager

import torch

from ..attention.reference import relative_l2
from ..attention.report import Report

PROBE_VALUES = 256
# A latent may be cast to float16 on its way (--fp16-intermediates), another latent differs by about 1.4.
SAME = 0.01

_RUNS: deque[tuple[torch.Tensor, Report]] = deque(maxlen=32)


def remember(samples, report: Report) -> None:
    """Keeps `report` for the latent `samples`: (B, C, T, Y, X) or a nested video and audio pair."""
    _RUNS.append((_probe(samples), report))


@contextmanager
def aside():
    """Runs in here see none from before, and are forgotten at the end: a measurement must not push out what a user
    looks at."""
    before = tuple(_RUNS)
    _RUNS.clear()
    try:
        yield
    finally:
        _RUNS.clear()
        _RUNS.extend(before)


def find(samples) -> Report | None:
    """The report of the run that gave this latent, the newest of several; None when no patched model gave it."""
    probe = _probe(samples)
    # Newest first, and min keeps the first of equals. One seed on two exact kernels differs by 1e-6: nearest wins.
    apart = [(relative_l2(probe, known), report) for known, report in reversed(_RUNS) if known.shape == probe.shape]
    error, report = min(apart, key=lambda pair: pair[0], default=(SAME, None))
    return report if error < SAME else None


def _probe(samples) -> torch.Tensor:
    first = samples.unbind()[0] if getattr(samples, "is_nested", False) else samples
    return first.reshape(-1)[:PROBE_VALUES].detach().to("cpu", torch.float64)
