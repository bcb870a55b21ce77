"""How pixels move from one frame to the next, and what that leaves unexplained.

Sources: warping error, W.-S. Lai et al., "Learning blind video temporal consistency", arXiv:1808.00449, section 4.2;
flicker, motion smoothness and dynamic degree follow the ideas of VBench, arXiv:2311.17982, section 3.2, with an optical
flow that needs no weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .flow import estimate_flow, find_matched, warp
from .frames import to_laplacian, to_luma

# With fewer matched pixels than this share, no motion explains the change.
LOST = 0.4
# Sorted values: so many pixels are enough.
SAMPLE = 100_000
FASTEST = 0.05
# What moves: pixels with this share of the speed of the fastest, where those move by so many pixels.
MOVES, LEAST_SPEED = 0.5, 0.1

Estimator = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Motion:
    """How pixels move between a frame and the next.

    forward: flow to the next frame, (1, 2, H, W), in pixels.
    backward: flow from there, (1, 2, H, W), in pixels.
    matched: the pixels that have a match, bool (1, 1, H, W).
    share: of the pixels that have a match.
    lost: whether no motion explains the change; then nothing moves and every pixel counts.
    """

    forward: Tensor
    backward: Tensor
    matched: Tensor
    share: float
    lost: bool


@dataclass(frozen=True)
class Step:
    """What was measured between a frame and the one before; NaN where there is nothing.

    change: mean absolute difference of luma, pixel by pixel, 0 to 1.
    matched: share of the pixels that have a match.
    lost: see `Motion`.
    speed: mean length of the flow, in pixels per frame; over the pixels that have a match.
    fastest: the same of the fastest 5 percent of them, VBench's dynamic degree.
    flicker: mean absolute difference of luma that motion leaves unexplained, 0 to 1; over the same pixels.
    warp_error: mean squared difference of RGB that motion leaves unexplained, 0 to 1; over the same pixels.
    brightness: what of the difference of luma is common to most of them, with its sign: -1 to 1.
    acceleration: mean length of the second difference of the flow, in pixels per frame squared.
    sharpness: mean square of the Laplacian of the frame before, over the pixels that move, at least half as fast as the
        fastest.
    """

    change: float = math.nan
    matched: float = math.nan
    lost: bool = False
    speed: float = math.nan
    fastest: float = math.nan
    flicker: float = math.nan
    warp_error: float = math.nan
    brightness: float = math.nan
    acceleration: float = math.nan
    sharpness: float = math.nan


def find_motion(before: Tensor, now: Tensor, estimate: Estimator = estimate_flow) -> Motion:
    """Find how two neighbouring frames moved.

    before: picture of the first, (1, 3, H, W).
    now: picture of the second, (1, 3, H, W).
    estimate: finds the flow between two pictures of luma.
    """
    lumas = to_luma(before), to_luma(now)
    forward, backward = estimate(*lumas), estimate(*reversed(lumas))
    matched = find_matched(forward, backward)
    share = matched.float().mean().item()
    if share >= LOST:
        return Motion(forward, backward, matched, share, False)
    return Motion(torch.zeros_like(forward), torch.zeros_like(forward), torch.ones_like(matched), share, True)


def measure_step(before: Tensor, now: Tensor, motion: Motion, earlier: Motion | None = None) -> Step:
    """Measure two neighbouring pictures (1, 3, H, W).

    motion: between them.
    earlier: the motion to the first of them, None if there is none.
    """
    rest = _rest(before, now, motion)
    luma = to_luma(rest.T[None, :, :, None]).flatten()
    speed = torch.hypot(*motion.forward[0])[motion.matched[0, 0]]
    fastest = math.nan if motion.lost else _sorted(speed, 1 - FASTEST, 1.0)
    return Step(
        (to_luma(now) - to_luma(before)).abs().mean().item(),
        motion.share,
        motion.lost,
        math.nan if motion.lost else speed.mean().item(),
        fastest,
        luma.abs().mean().item(),
        rest.square().mean().item(),
        math.nan if motion.lost else _sorted(luma, 0.25, 0.75),
        measure_acceleration(earlier, motion),
        _sharpness_of(to_laplacian(before)[motion.matched], speed, fastest),
    )


def _sharpness_of(laplacian: Tensor, speed: Tensor, fastest: float) -> float:
    """Average the square of a Laplacian (pixels,) over what moves; NaN where nothing does or no motion was found."""
    if not fastest >= LEAST_SPEED:
        return math.nan
    return laplacian[speed >= MOVES * fastest].square().mean().item()


def measure_unexplained(before: Tensor, now: Tensor, motion: Motion) -> tuple[float, float]:
    """Measure flicker and warping error between two pictures (1, 3, H, W)."""
    step = measure_step(before, now, motion)
    return step.flicker, step.warp_error


def measure_acceleration(earlier: Motion | None, motion: Motion) -> float:
    """Average the change of the flow along the way of each pixel; NaN without two motions that were found."""
    if earlier is None or earlier.lost or motion.lost:
        return math.nan
    change = warp(motion.forward, earlier.forward) - earlier.forward
    return torch.hypot(*change[0])[earlier.matched[0, 0]].mean().item()


def _rest(before: Tensor, now: Tensor, motion: Motion) -> Tensor:
    """Return what motion leaves unexplained of the pixels that have a match, (pixels, 3)."""
    return (warp(now, motion.forward, "bicubic") - before).movedim(1, -1)[motion.matched[:, 0]]


def _sorted(values: Tensor, low: float, high: float) -> float:
    """Average the values (N,) between two shares of their number in order, of at most SAMPLE of them."""
    values = values[:: -(-len(values) // SAMPLE)].sort().values
    first, last = int(low * len(values)), max(1, math.ceil(high * len(values)))
    return values[min(first, last - 1) : last].mean().item()
