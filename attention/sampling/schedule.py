"""Arithmetic of noise schedules."""

from __future__ import annotations

import torch

AUTO, LTXV, SIMPLE = "auto", "ltxv", "simple"
# What ComfyUI's own templates use, by the name of our family; every other one of theirs has `simple`.
USUAL = {"LTXV": LTXV, "LTX-2": LTXV, "Cosmos": "karras", "Cosmos Predict2": "karras", "SVD": "karras"}


def usual(family: str | None) -> str:
    """The scheduler that a family is usually sampled with; `simple` for an unknown one."""
    return USUAL.get(family, SIMPLE)


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
