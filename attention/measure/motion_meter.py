"""How much of a clip moves and how much stands still, beside another measure that reads its frames anyway."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from . import frame_series
from .motion import Step, find_motion, measure_step
from .opencv_flow import FlowEstimator
from .series import Series
from .shots import find_shots, shrink

# Longest side at which motion is looked for: it is told in percent of the height, and the time goes with the pixels.
SIDE = 192


@dataclass(frozen=True)
class Moves:
    """What a `MotionMeter` found.

    motion: mean length of the flow, in percent of the height per frame, NaN at cuts.
    frozen: share of the frames that equal the one before, NaN for a single frame.
    """

    motion: Series
    frozen: float


class MotionMeter:
    """Takes the frames of a clip one after the other."""

    def __init__(self):
        self._steps, self._looks, self._before, self._estimate = [], [], None, FlowEstimator()

    def add(self, picture: Tensor) -> None:
        """Take the next frame, (1, 3, H, W)."""
        scale = min(1.0, SIDE / max(picture.shape[2:]))
        size = [max(1, round(scale * side)) for side in picture.shape[2:]]
        now = picture if scale == 1.0 else F.interpolate(picture, size, mode="bilinear", antialias=True)
        step = Step()
        if self._before is not None:
            step = measure_step(self._before, now, find_motion(self._before, now, self._estimate))
        self._steps.append(step)
        self._looks.append(shrink(now))
        self._before = now

    def finish(self) -> Moves:
        """Sum up."""
        shots = find_shots(self._steps, torch.stack(self._looks))
        pairs = len(self._steps) - 1
        motion = frame_series.percent_of(self._before.shape[2], "speed", self._steps, shots)
        return Moves(motion, len(shots.repeats) / pairs if pairs else math.nan)
