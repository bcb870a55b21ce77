"""How far a clip is from another one of the same size: PSNR, SSIM, and pictures of where.

Sources: Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004
(Gaussian window of 11 pixels with deviation 1.5, K1 0.01, K2 0.03, borders left out); here the mean over R, G and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import Unmeasurable, check_shape, describe_size, to_picture
from .series import Series, to_table

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
    """

    title: str
    psnr: Series
    ssim: Series
    worst: int
    equal: bool


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
    errors, ssim = [], []
    for index in range(len(images)):
        pair = to_picture(reference, index, device), to_picture(images, index, device)
        errors.append((pair[0] - pair[1]).square().mean().item())
        ssim.append(measure_ssim(*pair))
        advance()
    worst = min(range(len(ssim)), key=lambda index: (ssim[index], -errors[index]))
    overall = to_psnr(math.fsum(errors) / len(errors))
    return Comparison(
        describe_size(images),
        Series("PSNR", "decibels, more is closer", tuple(map(to_psnr, errors)), True, overall),
        Series("SSIM", "1 is equal", tuple(ssim), True),
        worst,
        not any(errors),
    )


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
    """Write down title, table and the worst frame."""
    last = "All pixels are equal." if found.equal else f"Worst frame: {found.worst}, the one with the lowest SSIM."
    return "\n\n".join((found.title, to_table((found.psnr, found.ssim)), last))
