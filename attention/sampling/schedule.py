"""Arithmetic of noise schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

# What a model's row of the families' table says; LTX-Video's own, which is no scheduler of the host's list.
AUTO, LTXV = "auto", "ltxv"


def all_steps(steps: int, denoise: float) -> int:
    """How long a schedule is of which `steps` steps are the last part `denoise`, more than 0 and at most 1."""
    return steps if denoise > 0.9999 else int(steps / denoise)


def shift_of(tokens: int, base: float, most: float) -> float:
    """LTX-Video's shift for a clip of `tokens`: `base` at 1024, `most` at 4096, a line through both."""
    return base + (most - base) * (tokens - 1024) / (4096 - 1024)


def switch_step(sigmas: torch.Tensor, boundary: float) -> int:
    """How many steps begin at or above the noise level `boundary`: those of the first of two experts.

    sigmas: (steps + 1,), falling. As Wan 2.2 does it, arXiv:2503.20314 and github.com/Wan-Video/Wan2.2, whose boundary
    is a timestep of 1000: its 875 is 0.875 here.
    """
    return int((sigmas[:-1] >= boundary).sum())


def percents_of(sigmas: list[float], first: int, last: int, to_sigma: Callable) -> tuple[float, float]:
    """The part of the sampling, 0 to 1 as ComfyUI counts it, that covers the steps `first` to `last` and no other.

    sigmas: (steps + 1,), falling. first, last: from 0, both meant. to_sigma: the model's percent_to_sigma. Bounds lie
    between two steps, so that no rounding moves them. ValueError where two steps have one noise level.
    """
    steps = len(sigmas) - 1
    bounds = [0.0 if first == 0 else _between(sigmas, first, to_sigma)]
    bounds.append(1.0 if last >= steps - 1 else _between(sigmas, last + 1, to_sigma))
    return bounds[0], bounds[1]


def _between(sigmas: list[float], step: int, to_sigma: Callable) -> float:
    """A percent after the begin of the step before `step` and before its own."""
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
