"""What in a clip is no motion: cuts, single frames that fit nowhere, frames that repeat, and loops.

All is told from what `motion.measure_step` measured and from small copies of the frames.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..core.gpu import widest
from .motion import Step

# Side of the small copies; a mean difference that the eye does not see, less than half a step of 8 bits; the largest of
# a small copy's pixel: of what blinks in a still scene it is more.
SMALL, UNSEEN, UNMOVED = 32, 0.0015, 0.01
# A cut leaves so many times as much unexplained as the pairs around it, so many of them on each side.
STANDS_OUT, AROUND = 2.5, 3
# Least mean difference of luma at a cut; in flat pictures a small thing that jumps leaves few pixels with a match.
CUT = 0.02
# What has a match everywhere is a flash if it leaves so much of luma unexplained, and so many times as much.
FLASH, FLASHES = 0.08, 8.0
# A frame recurs when one at least so far away is nearer than this share of the distance of frames two apart.
APART, NEARER = 4, 0.5
NOWHERE = -1
# Of the last frame: pairs that are needed beside it; least deviation, of luma and as a share of the median.
LEAST_PAIRS, LEAST, SHARE = 5, 0.0005, 0.05


@dataclass(frozen=True)
class Shots:
    """How a clip's frames belong together. Frames are named by their numbers.

    number: of the shot that each frame belongs to, from 0; NOWHERE for strays.
    cuts: the frames that begin another shot.
    strays: single frames that are like neither neighbour, while those are like each other.
    lost: frames at which no motion explains what changed, though it is no more than around them: noise.
    repeats: frames that equal the one before.
    """

    number: tuple[int, ...]
    cuts: tuple[int, ...]
    strays: tuple[int, ...]
    lost: tuple[int, ...]
    repeats: tuple[int, ...]

    @property
    def jumps(self) -> set[int]:
        """Return the frames that are not of one shot with the one before."""
        return {*self.cuts, *self.strays, *(index + 1 for index in self.strays)}


def shrink(picture: Tensor) -> Tensor:
    """Make a small copy (3, SMALL, SMALL) of a picture (1, 3, H, W)."""
    return F.adaptive_avg_pool2d(picture, SMALL)[0].cpu()


def find_shots(steps: Sequence[Step], looks: Tensor) -> Shots:
    """Tell cuts from strays and from noise.

    steps: what was measured at each frame; at frame 0 there is nothing.
    looks: a small copy of each frame, (T, 3, SMALL, SMALL).
    """
    away = [index for index, step in enumerate(steps) if step.lost and step.flicker > CUT]
    jumps = [index for index in away if _stands_out(steps, index, STANDS_OUT)]
    # A black or a white frame has a match everywhere: flat places have the motion of nothing.
    flashes = [n for n, step in enumerate(steps) if step.flicker > FLASH and _stands_out(steps, n, FLASHES)]
    strays = [frame for frame in range(len(steps)) if _is_stray(frame, {*jumps, *flashes}, looks)]
    cuts = [index for index in jumps if not {index - 1, index} & set(strays)]
    number, shot = [], 0
    for index in range(len(steps)):
        shot += index in cuts
        number.append(NOWHERE if index in strays else shot)
    return Shots(
        tuple(number),
        tuple(cuts),
        tuple(strays),
        tuple(index for index, step in enumerate(steps) if step.lost and index not in jumps),
        tuple(n for n, step in enumerate(steps) if step.change < UNSEEN and _is_unmoved(looks[n - 1], looks[n])),
    )


def _stands_out(steps: Sequence[Step], index: int, least: float) -> bool:
    near = [*range(index - AROUND, index), *range(index + 1, index + AROUND + 1)]
    around = [steps[n].flicker for n in near if 0 < n < len(steps) and steps[n].change >= UNSEEN]
    return not around or steps[index].flicker > least * statistics.median(around)


def _is_stray(frame: int, jumps: set[int], looks: Tensor) -> bool:
    """Tell whether a frame stands between two jumps, or between one and an end of a clip of three frames or more."""
    last = len(looks) - 1
    if frame in (0, last):
        return last > 1 and (1 if frame == 0 else last) in jumps
    if frame not in jumps or frame + 1 not in jumps:
        return False
    across, into = (distance(looks[frame - 1], looks[n]) for n in (frame + 1, frame))
    return across < 0.5 * into


def _is_unmoved(first: Tensor, second: Tensor) -> bool:
    return (first - second).abs().max().item() < UNMOVED


def distance(first: Tensor, second: Tensor) -> float:
    """Compute the mean absolute difference of two small copies."""
    return (first - second).abs().mean().item()


def find_recurring(looks: Tensor, number: Sequence[int]) -> list[int]:
    """List the frames that recur: the clip comes back to what it showed, forwards or backwards.

    A frame recurs when one that is APART frames away or more is much nearer than two frames that follow each other at a
    distance of two, and so do its neighbours, in the same order or the opposite one. Frames of a clip that stands still
    recur not.

    looks: a small copy of each frame, (T, 3, SMALL, SMALL).
    number: of the shot that each frame belongs to.
    """
    count = len(looks)
    if count <= APART + 2:
        return []
    flat = looks.flatten(1).to(widest(looks.device))
    away = torch.cdist(flat, flat, p=1) / flat.shape[1]
    frames = torch.arange(count)
    moved = away[frames[:-2], frames[2:]]  # of the frame between them
    far = (frames[:, None] - frames).abs() >= APART
    middle = away[1:-1, 1:-1]
    same = (away[:-2, :-2] + middle + away[2:, 2:]) / 3
    back = (away[:-2, 2:] + middle + away[2:, :-2]) / 3
    nearest = torch.minimum(same, back).masked_fill(~far[1:-1, 1:-1], math.inf).amin(1)
    recurs = (nearest < NEARER * moved) & (moved > UNSEEN)
    found = [index + 1 for index in recurs.nonzero().flatten().tolist()]
    return [index for index in found if number[index - 1] == number[index] == number[index + 1]]


def judge_last(values: Sequence[float]) -> float:
    """Compute how far the last value stands above the others, in robust deviations; NaN with too few of them.

    values: of flicker at each frame, NaN where there is none.
    """
    *others, last = values
    known = [value for value in others if not math.isnan(value)]
    if math.isnan(last) or len(known) < LEAST_PAIRS:
        return math.nan
    middle = statistics.median(known)
    spread = 1.4826 * statistics.median(abs(value - middle) for value in known)
    return (last - middle) / max(spread, SHARE * middle, LEAST)
