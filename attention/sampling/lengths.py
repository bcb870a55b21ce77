"""Latent frames and pictures: how many of the one are how many of the other.

sizes, where a function takes them: pictures in each latent frame, over and over, where they are not alike behind the
first; () where the first has one and each other one `ratio`.
"""

from __future__ import annotations

from itertools import accumulate, cycle, islice
from math import ceil


def latent_frames(pictures: float, ratio: int, sizes: tuple[int, ...] = ()) -> int:
    """Return the latent frames whose pictures are nearest to so many, the fewer of two that are equally near.

    ratio: pictures that each of the other frames holds.
    """
    if not sizes:
        return 1 + max(0, round((pictures - 1) / ratio))
    ends = accumulate(islice(cycle(sizes), max(1, ceil(pictures) + 1)))
    return min(enumerate(ends, 1), key=lambda end: abs(end[1] - pictures))[0]


def pictures_of(frames: int, ratio: int, sizes: tuple[int, ...] = ()) -> int:
    """Return the pictures of so many latent frames, one at least: the reverse of `latent_frames`."""
    return max(1, begin_of(frames, ratio, sizes)) if sizes else 1 + max(0, frames - 1) * ratio


def begin_of(frame: int, ratio: int, sizes: tuple[int, ...] = ()) -> int:
    """Return the pictures before a latent frame, from 0."""
    if not sizes:
        return 1 + (frame - 1) * ratio if frame > 0 else 0
    rounds, rest = divmod(max(0, frame), len(sizes))
    return rounds * sum(sizes) + sum(sizes[:rest])
