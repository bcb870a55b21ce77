"""The measures of a clip over its frames, from what was kept of each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .colour_drift import measure_colour_drift
from .motion import Step
from .series import Series
from .shots import Shots


@dataclass(frozen=True)
class FrameFacts:
    """What is kept of a frame while the clip is read.

    step: what was measured beside the frame before; at frame 0 nothing.
    drift: of the region.
    sharpness: of the frame.
    detail: mean gradient of its luma.
    look: a small copy of it, (3, h, w).
    """

    step: Step
    drift: float
    sharpness: float
    detail: float
    look: Tensor


def make_rows(facts: Sequence[FrameFacts], shots: Shots, looks: Tensor, height: int) -> dict[str, Series]:
    """Make the measures, by the names of `ClipMetrics`.

    looks: the small copies, (T, 3, h, w).
    height: of the frames, in pixels.
    """
    steps = [one.step for one in facts]
    colours, end = measure_colour_drift(looks, shots.number)
    drift = (math.nan if index in shots.repeats else one.drift for index, one in enumerate(facts))
    sharpness = tuple(one.sharpness for one in facts)
    return {
        "motion": percent_of(height, "speed", steps, shots),
        "brightness": Series("brightness flicker", "common jumps of luma, 0 to 1", _jumps(steps, shots)),
        "flicker": Series("flicker", "mean absolute difference of luma, 0 to 1", _moving("flicker", steps, shots)),
        "warp_error": Series(
            "warping error", "mean squared difference of RGB, 0 to 1", _moving("warp_error", steps, shots)
        ),
        "acceleration": Series("acceleration", "pixels per frame squared", _accelerations(steps, shots)),
        "drift": Series("identity drift", "1 - cosine with frame 0", tuple(drift)),
        "colour_drift": Series("colour drift", "in L*a*b*, from the first fifth to the last", colours, overall=end),
        "sharpness": Series("sharpness", "variance of the Laplacian, more is sharper", sharpness, lowest_is_worst=True),
    }


def percent_of(height: int, name: str, steps: Sequence[Step], shots: Shots) -> Series:
    """Make the measure of motion, in percent of the frame's height: 0 at repeated frames, NaN beside a cut or a stray.

    name: of the speed, a field of `Step`.
    """
    speeds = [math.nan if n in shots.jumps else getattr(step, name) for n, step in enumerate(steps)]
    values = tuple(0.0 if n in shots.repeats else 100 * speed / height for n, speed in enumerate(speeds))
    return Series("motion", "percent of the height per frame", values, lowest_is_worst=True, marked="slowest")


def _moving(name: str, steps: Sequence[Step], shots: Shots) -> tuple[float, ...]:
    """Return a field of the steps, NaN at cuts and at frames that repeat the one before."""
    return tuple(
        math.nan if index in shots.cuts or index in shots.repeats else getattr(step, name)
        for index, step in enumerate(steps)
    )


def _accelerations(steps: Sequence[Step], shots: Shots) -> tuple[float, ...]:
    """Return the accelerations, NaN where two frames in a row repeat the one before: motion that stops counts."""
    values = []
    for index, step in enumerate(steps):
        both = {index - 1, index}
        values.append(math.nan if both & shots.jumps or both <= {*shots.repeats} else step.acceleration)
    return tuple(values)


def _jumps(steps: Sequence[Step], shots: Shots) -> tuple[float, ...]:
    """Return half the change of brightness from one pair of frames to the next one of the same shot that moves."""
    values, before, shot = [], math.nan, 0
    for index, now in enumerate(_moving("brightness", steps, shots)):
        if shots.number[index] != shot:
            before, shot = math.nan, shots.number[index]
        now = math.nan if index in shots.jumps else now
        values.append(abs(now - before) / 2)
        before = before if math.isnan(now) else now
    return tuple(values)


def mean_sharpness(steps: Sequence[Step], shots: Shots) -> float:
    """Average the sharpness of what moves, without cuts and frames that repeat the one before; NaN if nothing does."""
    known = [value for value in _moving("sharpness", steps, shots) if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def mean_detail(facts: Sequence[FrameFacts]) -> float:
    """Average the gradient of the frames."""
    return sum(one.detail for one in facts) / len(facts)


def ratio(value: float, unit: float) -> float:
    """Divide, NaN where there is nothing to divide by."""
    return value / unit if unit > 0 else math.nan
