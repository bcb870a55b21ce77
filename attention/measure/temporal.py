"""How steady a clip is: flicker, warping error, smoothness of the motion, identity drift, sharpness.

Sources: warping error, W.-S. Lai et al., "Learning blind video temporal consistency", arXiv:1808.00449, section 4.2;
flicker, motion smoothness and subject consistency follow the ideas of VBench, arXiv:2311.17982, section 3.2, with an
optical flow and features that need no weights; sharpness, J. L. Pech-Pacheco et al., "Diatom autofocusing in
brightfield microscopy: a comparative study", ICPR 2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from . import tracked_region
from .flow import estimate_flow, find_matched, warp
from .frames import check_shape, describe_size, to_luma, to_picture
from .series import Series, to_table

# With fewer matched pixels than this share, two frames are taken for two shots.
CUT = 0.3


@dataclass(frozen=True)
class ClipMetrics:
    """What `measure_clip` found: a figure for each frame, NaN where there is none. Less is better, but of sharpness.

    title: of the clip, a line.
    flicker: mean absolute difference of luma that motion leaves unexplained, 0 to 1; over the pixels that have a
        match, written down at the later frame.
    warp_error: mean squared difference of RGB that motion leaves unexplained, 0 to 1; over the same pixels.
    acceleration: mean length of the second difference of the flow, in pixels per frame squared, at the last of three
        frames.
    drift: one minus the cosine of the region's features and those in frame 0; built-in features 0 to 1, others 0 to 2.
    sharpness: variance of the Laplacian of luma, 0 to 16, more is sharper.
    notes: sentences about what could not be measured, and why.
    """

    title: str
    flicker: Series
    warp_error: Series
    acceleration: Series
    drift: Series
    sharpness: Series
    notes: tuple[str, ...]

    @property
    def series(self) -> tuple[Series, ...]:
        """Return the measures in the order in which they are shown."""
        return self.flicker, self.warp_error, self.acceleration, self.drift, self.sharpness


@dataclass(frozen=True)
class Motion:
    """How pixels move between a frame and the next.

    forward: flow to the next frame, (1, 2, H, W), in pixels.
    backward: flow from there, (1, 2, H, W), in pixels.
    matched: the pixels that have a match, bool (1, 1, H, W).
    cut: whether no motion explains the change; then nothing moves and every pixel counts.
    """

    forward: Tensor
    backward: Tensor
    matched: Tensor
    cut: bool


def measure_clip(
    frames: Tensor,
    mask: Tensor | None = None,
    encode: tracked_region.Encoder | None = None,
    device: torch.device | str = "cpu",
    advance: Callable[[], object] = lambda: None,
) -> ClipMetrics:
    """Measure a clip in every way, frame after frame.

    frames: (T, H, W, C), RGB, 0 to 1.
    mask: (T or 1, h, w), 0 to 1, the region whose identity is followed: one for each frame, or the first frame's, which
        then moves with the flow; None or an empty one: the whole frame.
    encode: features of a picture (1, h, w, 3) to use instead of the built-in ones.
    device: where to measure.
    advance: called after every frame.

    One frame has only a sharpness, two have no acceleration: those are NaN, with a note.
    Raises `Unmeasurable` for frames that are no clip, or hold NaN or Inf.
    """
    check_shape(frames)
    masks, notes = tracked_region.prepare_masks(mask, frames)
    before = motion = None
    track = tracked_region.Track()
    rows, motions = [], []
    for index in range(len(frames)):
        now, earlier = to_picture(frames, index, device), motion
        motion = None if before is None else find_motion(before, now)
        track = tracked_region.locate(track, masks, index, motion, now)
        track = tracked_region.measure_drift(track, now, encode or tracked_region.features_of)
        unexplained = (math.nan, math.nan) if motion is None else measure_unexplained(before, now, motion)
        rows.append((*unexplained, measure_acceleration(earlier, motion), track.drift, measure_sharpness(now)))
        motions += [] if motion is None else [_describe(motion)]
        before = now
        advance()
    return _sum_up(frames, rows, motions, notes)


def find_motion(before: Tensor, now: Tensor) -> Motion:
    """Find how two neighbouring frames moved.

    before: picture of the first, (1, 3, H, W).
    now: picture of the second, (1, 3, H, W).
    """
    forward, backward = estimate_flow(to_luma(before), to_luma(now)), estimate_flow(to_luma(now), to_luma(before))
    matched = find_matched(forward, backward)
    if matched.float().mean() >= CUT:
        return Motion(forward, backward, matched, False)
    return Motion(torch.zeros_like(forward), torch.zeros_like(forward), torch.ones_like(matched), True)


def measure_unexplained(before: Tensor, now: Tensor, motion: Motion) -> tuple[float, float]:
    """Measure flicker and warping error between two pictures (1, 3, H, W)."""
    rest = (warp(now, motion.forward, "bicubic") - before).movedim(1, -1)[motion.matched[:, 0]]  # (pixels, 3)
    luma = to_luma(rest.T[None, :, :, None])
    return luma.abs().mean().item(), rest.square().mean().item()


def measure_acceleration(earlier: Motion | None, motion: Motion | None) -> float:
    """Average the change of the flow along the way of each pixel; NaN without two motions in one shot."""
    if earlier is None or motion is None or earlier.cut or motion.cut:
        return math.nan
    change = warp(motion.forward, earlier.forward) - earlier.forward
    return _length(change)[earlier.matched].mean().item()


def measure_sharpness(picture: Tensor) -> float:
    """Compute the variance of the Laplacian, 4 centre - up - down - left - right, of the luma of (1, 3, H, W)."""
    luma = to_luma(picture)
    wide = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    return (4 * luma - around).var(correction=0).item()


def _length(flow: Tensor) -> Tensor:
    return torch.hypot(flow[:, :1], flow[:, 1:])


def _describe(motion: Motion) -> tuple[float, float, bool]:
    """Return the share of matched pixels, their mean speed in pixels per frame, and whether it is a cut."""
    speed = _length(motion.forward)[motion.matched].mean().item()
    return motion.matched.float().mean().item(), speed, motion.cut


def _sum_up(frames: Tensor, rows: list, motions: list, notes: list[str]) -> ClipMetrics:
    flicker, warp_error, acceleration, drift, sharpness = zip(*rows)
    title = describe_size(frames)
    if motions:
        share, speed = (sum(column) / len(motions) for column in list(zip(*motions))[:2])
        title += f", {share:.0%} of the pixels matched, mean motion {speed:.2f} pixels per frame"
    return ClipMetrics(
        title,
        Series("flicker", "mean absolute difference of luma, 0 to 1", flicker),
        Series("warping error", "mean squared difference of RGB, 0 to 1", warp_error),
        Series("acceleration", "pixels per frame squared", acceleration),
        Series("identity drift", "1 - cosine with frame 0", drift),
        Series("sharpness", "variance of the Laplacian, more is sharper", sharpness, lowest_is_worst=True),
        (*_missing(len(frames)), *notes, *_cuts(motions), *_gone(drift)),
    )


def _missing(count: int) -> list[str]:
    if count > 2:
        return []
    return ["One frame: only its sharpness can be measured." if count == 1 else "Acceleration needs three frames."]


def _cuts(motions: list) -> list[str]:
    cuts = [str(index) for index, (*_, cut) in enumerate(motions, 1) if cut]
    if not cuts:
        return []
    return [f"No motion explains what changed at frame {', '.join(cuts)}: a cut, or noise."]


def _gone(drift: tuple[float, ...]) -> list[str]:
    gone = [index for index, value in enumerate(drift) if index and math.isnan(value)]
    return [f"The masked region is not to be seen in {len(gone)} frames, first in frame {gone[0]}."] if gone else []


def to_text(metrics: ClipMetrics) -> str:
    """Write down title, table and notes."""
    return "\n\n".join(filter(None, (metrics.title, to_table(metrics.series), "\n".join(metrics.notes))))
