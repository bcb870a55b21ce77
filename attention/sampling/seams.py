"""How visible the joints of a clip are: the change across a joint beside the change between ordinary frames."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch

from .windows import Span


@dataclass(frozen=True)
class Seam:
    """How visible one joint is.

    frame: the first frame of the joint.
    ratio: its largest change over the ordinary one; about 1 is no seam.
    """

    frame: int
    ratio: float


def changes(latent: torch.Tensor) -> torch.Tensor:
    """Return the root mean square (C, T - 1) of the difference of neighbouring frames of `latent`, (B, C, T, ...)."""
    step = latent[:, :, 1:].float() - latent[:, :, :-1].float()
    return step.pow(2).mean(dim=[d for d in range(step.ndim) if d not in (1, 2)]).sqrt()


def seams(latent: torch.Tensor, joints: list[Span]) -> tuple[Seam, ...]:
    """Measure every joint of a latent.

    A channel's change counts in parts of its own median, so that channels of much noise do not hide the others; a step
    counts as the channel that changes most. Medians are of the steps outside of joints, or of all when there is no
    other.

    latent: (B, C, T, ...).
    joints: (first, end), the frames whose step from the frame before counts.
    """
    change = changes(latent)
    if not joints or not change.shape[1]:
        return ()
    ordinary = torch.ones(change.shape[1], dtype=torch.bool)
    for first, end in joints:
        ordinary[first - 1 : end - 1] = False
    ordinary = ordinary if ordinary.any() else ~ordinary
    parts = torch.where(change > 0, change / change[:, ordinary].median(dim=1, keepdim=True).values, 0.0)
    most = parts.amax(dim=0)
    usual = float(most[ordinary].median())
    return tuple(Seam(first, _ratio(float(most[first - 1 : end - 1].max()), usual)) for first, end in joints)


def worst(found: tuple[Seam, ...]) -> float:
    """Return the largest ratio, 0 without a joint."""
    return max((seam.ratio for seam in found), default=0.0)


def to_text(found: tuple[Seam, ...]) -> str:
    """Write seams as `at 12: 1.04, at 24: 0.97`, by frames of the latent."""
    return ", ".join(f"at {seam.frame}: {seam.ratio:.2f}" for seam in found)


def _ratio(change: float, usual: float) -> float:
    if usual > 0.0:
        return change / usual
    return inf if change > 0.0 else 1.0
