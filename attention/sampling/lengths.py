"""Latent frames and pictures: how many of the one are how many of the other."""

from __future__ import annotations


def latent_frames(pictures: float, ratio: int) -> int:
    """Return the latent frames of so many pictures, the first frame a single one.

    ratio: pictures that one of the other frames holds.
    """
    return 1 + max(0, round((pictures - 1) / ratio))


def pictures_of(frames: int, ratio: int) -> int:
    """Return the pictures of so many latent frames: the reverse of `latent_frames`."""
    return 1 + max(0, frames - 1) * ratio
