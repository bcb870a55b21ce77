"""How the colours of a shot creep away from those it began with.

Source: E. Reinhard et al., "Color transfer between images", IEEE CG&A 2001: the look of a picture's colours as mean and
deviation of three channels, here of CIE L*a*b*. The mean moves when the picture turns warmer or darker, the deviation
when it fades or burns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .shots import NOWHERE

# Share of a shot that counts as its beginning and as its end, and the frames that it needs for both.
PART, LEAST = 0.2, 5


def describe_colours(looks: Tensor) -> Tensor:
    """Compute mean and deviation of L*, a* and b*, (T, 6), of small copies (T, 3, h, w) in 0..1."""
    from kornia.color import rgb_to_lab  # ComfyUI requires it, but calls it not essential

    lab = rgb_to_lab(looks.float().clamp(0, 1)).flatten(2)
    return torch.cat([lab.mean(2), lab.std(2, correction=0)], 1)


def measure_colour_drift(looks: Tensor, number: Sequence[int]) -> tuple[tuple[float, ...], float]:
    """Measure how far each frame's colours are from those of the first fifth of its shot, in units of L*a*b*.

    looks: small copies of the frames, (T, 3, h, w), 0 to 1.
    number: of the shot that each frame belongs to, see `Shots`.
    Returns that, NaN in shots that are too short, and the distance between first and last fifth, of the shot where it
    is largest; NaN if there is none.
    """
    colours, values, ends = describe_colours(looks), [math.nan] * len(looks), []
    for shot in sorted({*number} - {NOWHERE}):
        frames = [index for index, one in enumerate(number) if one == shot]
        if len(frames) < LEAST:
            continue
        part = round(PART * len(frames))
        first, last = colours[frames[:part]].mean(0), colours[frames[-part:]].mean(0)
        for index, away in zip(frames, (colours[frames] - first).norm(dim=1).tolist()):
            values[index] = away
        ends.append((last - first).norm().item())
    return tuple(values), max(ends, default=math.nan)
