"""How far a clip is from another one of the same size: PSNR, SSIM, and pictures of where.

Sources: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004
(Gaussian window of 11 pixels with deviation 1.5, K1 0.01, K2 0.03, borders left out); here the mean over R, G and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean as mean

import torch
from torch import Tensor

from .frames import Unmeasurable, check_shape, describe_size, to_picture
from .motion_meter import MotionMeter, Moves
from .series import Series, number, to_table
from .verdict import judge

SSIM_WINDOW = 11


@dataclass(frozen=True)
class Comparison:
    """What `compare_clips` found.

    title: of the clips, a line.
    psnr: decibels beside a peak of 1, infinite for equal frames; of the clip: from the mean squared error over all
        frames.
    ssim: -1 to 1, 1 for equal frames.
    worst: the frame with the lowest SSIM.
    equal: whether all pixels are.
    unsteady: share of the error that changes from frame to frame: its mean squared change over twice its mean square.
        0 for an error that stays, 1 for one that is new in each frame, 2 for one that flickers to and fro.
    motion: of the clip, in percent of the height per frame, with that of the reference beside; over the pixels that
        have a match.
    reference_motion: of the reference.
    frozen: share of the frames that equal the one before.
    reference_frozen: of the reference.
    """

    title: str
    psnr: Series
    ssim: Series
    worst: int
    equal: bool
    unsteady: Series
    motion: Series
    reference_motion: float
    frozen: float
    reference_frozen: float

    @property
    def series(self) -> tuple[Series, ...]:
        """Return the measures in the order in which they are shown."""
        return self.psnr, self.ssim, self.unsteady, self.motion

    @property
    def figures(self) -> dict[str, float]:
        """Return a figure for each measure, by its name."""
        return {one.name: one.mean for one in self.series} | {
            "reference motion": self.reference_motion, "frozen share": self.frozen,
            "reference frozen share": self.reference_frozen,
        }  # fmt: skip


def compare_clips(
    reference: Tensor,
    images: Tensor,
    device: torch.device | str = "cpu",
    advance: Callable[[], object] = lambda: None,
) -> Comparison:
    """Measure how far a clip is from a reference, frame by frame.

    reference: (T, H, W, C), RGB, 0 to 1.
    images: the same, of one size with it.
    device: where to measure.
    advance: called after each frame.
    Raises `Unmeasurable` when sizes or lengths differ, and for NaN or Inf.
    """
    for clip in (reference, images):
        check_shape(clip)
    if reference.shape[:3] != images.shape[:3]:
        raise Unmeasurable(
            f"Only clips of one size and length can be compared: the reference has {describe_size(reference)}, "
            f"the other {describe_size(images)}."
        )
    meters, facts, before = (MotionMeter(), MotionMeter()), [], None
    for index in range(len(images)):
        pair = to_picture(reference, index, device), to_picture(images, index, device)
        away = pair[1] - pair[0]
        change = math.nan if before is None else (away - before).square().mean().item()
        facts.append((away.square().mean().item(), change, measure_ssim(*pair)))
        for meter, picture in zip(meters, pair):
            meter.add(picture)
        before = away
        advance()
    return _sum_up(describe_size(images), facts, [meter.finish() for meter in meters])


def _sum_up(title: str, facts: Sequence[tuple[float, float, float]], moves: Sequence[Moves]) -> Comparison:
    """Make the measures of squared error, its squared change and SSIM of each frame, and of both clips' motion."""
    errors, changes, ssim = zip(*facts)
    first, second = moves
    return Comparison(
        title,
        Series("PSNR", "decibels, more is closer", tuple(map(to_psnr, errors)), True, to_psnr(mean(errors))),
        Series("SSIM", "1 is equal", ssim, True),
        min(range(len(ssim)), key=lambda index: (ssim[index], -errors[index])),
        not any(errors),
        _unsteady(errors, changes),
        replace(second.motion, beside=first.motion.values, unit="% of the height per frame; grey: reference"),
        first.motion.mean,
        second.frozen,
        first.frozen,
    )


def _unsteady(errors: Sequence[float], changes: Sequence[float]) -> Series:
    """Divide the squared change of the error by the squares of the two errors it is between."""
    both = [math.nan, *(one + two for one, two in zip(errors, errors[1:]))]
    shares = tuple(change / squares if squares > 0 else math.nan for change, squares in zip(changes, both))
    total = math.fsum(both[1:])
    overall = math.fsum(changes[1:]) / total if total > 0 else math.nan
    return Series("unsteady share", "of the error: 0 stays, 1 is new, 2 flickers", shares, overall=overall)


def to_psnr(error: float) -> float:
    """Turn a mean squared error beside a peak of 1 into decibels."""
    return -10 * math.log10(error) if error > 0 else math.inf


def measure_ssim(first: Tensor, second: Tensor) -> float:
    """Compute the mean SSIM of two pictures (1, 3, H, W); on frames smaller than the window, with a smaller one."""
    from kornia.metrics import ssim  # ComfyUI requires it, but calls it not essential

    side = min(first.shape[2:])
    window = min(SSIM_WINDOW, side - (side % 2 == 0))
    # eps of its own would make two equal black frames differ.
    return ssim(first, second, window, 1.0, eps=0.0, padding="valid").mean().item()


def wipe(reference: Tensor, images: Tensor, index: int, split: float) -> Tensor:
    """Make a picture of one frame, the reference on its left and the other clip on its right: (1, H, W, 3).

    reference: (T, H, W, C).
    images: the same, of one size with it.
    index: of the frame.
    split: where they meet, 0 to 1 of the width; a white line with dark edges parts them.
    """
    left, right = (to_picture(clip, index, "cpu") for clip in (reference, images))
    width = left.shape[3]
    column = round(split * width)
    picture = torch.cat([left[..., :column], right[..., column:]], 3)
    if 0 < column < width:
        picture[..., max(0, column - 2) : column + 2] = 0.1
        picture[..., max(0, column - 1) : column + 1] = 1.0
    return picture.movedim(1, -1)


def to_text(found: Comparison) -> str:
    """Write down title, verdict, table and the worst frame."""
    last = "All pixels are equal." if found.equal else f"Worst frame: {found.worst}, the one with the lowest SSIM."
    shares = (
        f"Motion: {number(found.motion.mean)} percent of the height per frame, the reference "
        f"{number(found.reference_motion)}. Frozen: {found.frozen:.0%} of the frames, the reference "
        f"{found.reference_frozen:.0%}."
    )
    shares = shares if len(found.psnr.values) > 1 else ""
    return "\n\n".join(filter(None, (found.title, judge(found), to_table(found.series), shares, last)))
