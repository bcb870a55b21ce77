"""Arithmetic of noise schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

# What a model's row of the families' table says; LTX-Video's own, which is no scheduler of the host's list.
AUTO, LTXV = "auto", "ltxv"


def full_length(steps: int, denoise: float) -> int:
    """Return the steps of the whole schedule of which `steps` are the last part.

    denoise: that part, more than 0 and at most 1.
    """
    return steps if denoise > 0.9999 else int(steps / denoise)


def ltxv_shift(tokens: int, base: float, most: float) -> float:
    """Return LTX-Video's shift for a clip of `tokens`: `base` at 1024, `most` at 4096, a line through both."""
    return base + (most - base) * (tokens - 1024) / (4096 - 1024)


def switch_step(sigmas: torch.Tensor, boundary: float) -> int:
    """Count the steps that begin at or above a noise level: those of the first of two experts.

    As Wan 2.2 does it, arXiv:2503.20314 and github.com/Wan-Video/Wan2.2.

    sigmas: (steps + 1,), falling.
    boundary: the noise level. Wan's is a timestep of 1000: its 875 is 0.875 here.
    """
    return int((sigmas[:-1] >= boundary).sum())


def percent_range(sigmas: list[float], first: int, last: int, to_sigma: Callable) -> tuple[float, float]:
    """Return the part of the sampling, 0 to 1 as ComfyUI counts it, that covers some steps and no other.

    Bounds lie between two steps, so that no rounding moves them. ValueError where two steps have one noise level.

    sigmas: (steps + 1,), falling.
    first: the first step covered, from 0.
    last: the last step covered.
    to_sigma: the model's percent_to_sigma.
    """
    steps = len(sigmas) - 1
    bounds = [0.0 if first == 0 else _between(sigmas, first, to_sigma)]
    bounds.append(1.0 if last >= steps - 1 else _between(sigmas, last + 1, to_sigma))
    return bounds[0], bounds[1]


def _between(sigmas: list[float], step: int, to_sigma: Callable) -> float:
    """Find a percent that is after the begin of the step before `step` and before that of `step`."""
    before, after = sigmas[step - 1], sigmas[step]
    if not after < before * (1 - 1e-3):
        raise ValueError(
            f"sigmas: steps {step} and {step + 1} begin at {before:.6g} and {after:.6g}, too near for a bound between."
        )
    wanted = math.sqrt(before * after)
    low, high = 0.0, 1.0
    # Noise falls along the percent. Halving 50 times is as fine as the number itself.
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if float(to_sigma(middle)) > wanted else (low, middle)
    return (low + high) / 2
