"""How steady a clip is: what moves, what flickers, what drifts, what repeats, and where it is worst.

Sources: see `motion`, `shots`, `colour_drift` and `tracked_region`; sharpness, J. L. Pech-Pacheco et al., "Diatom
autofocusing in brightfield microscopy: a comparative study", ICPR 2000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import frame_series, tracked_region
from .frames import check_shape, describe_size, to_laplacian, to_luma, to_picture
from .metric_notes import explain
from .motion import Step, find_motion, measure_step
from .opencv_flow import FlowEstimator
from .series import Series, number, to_table
from .shots import Shots, find_recurring, find_shots, judge_last, shrink


@dataclass(frozen=True)
class ClipMetrics:
    """What `measure_clip` found: a figure for each frame, NaN where there is none.

    A frame that repeats the one before adds nothing to flicker, warp_error, brightness, acceleration and drift: what is
    frozen is not steady. Two shots' frames are not compared. Less is better, but of motion and sharpness.

    title: of the clip, a line.
    motion: mean length of the flow, in percent of the frame's height per frame; 0 at repeated frames.
    brightness: half the change of what luma's unexplained difference has in common, 0 to 1: a clip that jumps up and
        down by 0.05 has 0.05, one that grows evenly brighter 0.
    flicker: mean absolute difference of luma that motion leaves unexplained, 0 to 1; over the pixels that have a
        match, written down at the later frame.
    warp_error: mean squared difference of RGB that motion leaves unexplained, 0 to 1; over the same pixels.
    acceleration: mean length of the second difference of the flow, in pixels per frame squared, at the last of three
        frames.
    drift: one minus the cosine of the region's features and those in frame 0; built-in features 0 to 1, others 0 to 2.
    colour_drift: distance of the colours' mean and deviation from those of the shot's first fifth, in units of L*a*b*;
        of the clip: that of the last fifth.
    sharpness: variance of the Laplacian of luma, 0 to 16, more is sharper.
    shots: cuts, strays and repeated frames.
    fastest: as motion, of the fastest 5 percent of the pixels, the mean.
    frozen: share of the frames that equal the one before, 0 to 1, of those that have one.
    loop: share of the frames that recur, 0 to 1: a warning, what moves to and fro recurs too.
    last_frame: how far the last frame's flicker stands above the others', in robust deviations.
    flicker_ratio: flicker over the mean gradient of luma, in pixels: blur lowers that too.
    acceleration_percent: acceleration in percent of the frame's height.
    acceleration_ratio: acceleration over motion, both in pixels.
    moving_sharpness: mean square of the Laplacian of luma where it moves, see `Step`: blur over frames lowers it first.
    notes: sentences about what could not be measured, and what to think of the figures.
    """

    title: str
    motion: Series
    brightness: Series
    flicker: Series
    warp_error: Series
    acceleration: Series
    drift: Series
    colour_drift: Series
    sharpness: Series
    shots: Shots
    fastest: float
    frozen: float
    loop: float
    last_frame: float
    flicker_ratio: float
    acceleration_percent: float
    acceleration_ratio: float
    moving_sharpness: float
    notes: tuple[str, ...]

    @property
    def series(self) -> tuple[Series, ...]:
        """Return the measures in the order in which they are written."""
        return (
            self.motion, self.brightness, self.flicker, self.warp_error, self.acceleration, self.drift,
            self.colour_drift, self.sharpness,
        )  # fmt: skip

    @property
    def drawn(self) -> tuple[Series, ...]:
        """Return the measures in the order in which they are drawn: warping error says what flicker says."""
        return tuple(one for one in self.series if one is not self.warp_error)

    @property
    def figures(self) -> dict[str, float]:
        """Return a figure for each measure of the clip, by its name."""
        single = {
            "frozen share": self.frozen, "loop share": self.loop, "cuts": len(self.shots.cuts),
            "last frame": self.last_frame, "fastest motion": self.fastest, "flicker over detail": self.flicker_ratio,
            "acceleration, percent of the height": self.acceleration_percent,
            "acceleration over motion": self.acceleration_ratio, "sharpness of what moves": self.moving_sharpness,
        }  # fmt: skip
        return {one.name: one.mean for one in self.series} | single


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
    Raises `Unmeasurable` for frames that are no clip, hold NaN or Inf, or are not 0 to 1.
    """
    check_shape(frames)
    masks, notes = tracked_region.prepare_masks(mask, frames)
    before = motion = None
    track, estimate, facts = tracked_region.Track(), FlowEstimator(), []
    for index in range(len(frames)):
        now, earlier = to_picture(frames, index, device), motion
        motion = None if before is None else find_motion(before, now, estimate)
        track = tracked_region.locate(track, masks, index, motion, now)
        track = tracked_region.measure_drift(track, now, encode or tracked_region.features_of)
        step = Step() if before is None else measure_step(before, now, motion, earlier)
        facts.append(
            frame_series.FrameFacts(step, track.drift, measure_sharpness(now), measure_detail(now), shrink(now))
        )
        before = now
        advance()
    return _sum_up(frames, facts, estimate, notes)


def measure_sharpness(picture: Tensor) -> float:
    """Compute the variance of the Laplacian of the luma of (1, 3, H, W)."""
    return to_laplacian(picture).var(correction=0).item()


def measure_detail(picture: Tensor) -> float:
    """Compute the mean absolute difference of luma between neighbouring pixels of (1, 3, H, W)."""
    luma = to_luma(picture)
    steps = luma.diff(dim=2).flatten(), luma.diff(dim=3).flatten()
    return torch.cat(steps).abs().mean().item()


def _sum_up(
    frames: Tensor, facts: Sequence[frame_series.FrameFacts], estimate: FlowEstimator, notes: list[str]
) -> ClipMetrics:
    steps, looks = [one.step for one in facts], torch.stack([one.look for one in facts])
    height, shots = frames.shape[1], find_shots(steps, looks)
    rows = frame_series.make_rows(facts, shots, looks, height)
    speed, acceleration = rows["motion"].mean * height / 100, rows["acceleration"].mean
    last_frame, recurring = judge_last(rows["flicker"].values), find_recurring(looks, shots.number)
    found = ClipMetrics(
        _title(
            frames, [step for index, step in enumerate(steps) if index and index not in shots.jumps], speed, estimate
        ),
        **rows,
        shots=shots,
        fastest=frame_series.percent_of(height, "fastest", steps, shots).mean,
        frozen=len(shots.repeats) / (len(steps) - 1) if len(steps) > 1 else math.nan,
        loop=len(recurring) / len(steps) if len(steps) > 1 else math.nan,
        last_frame=last_frame,
        flicker_ratio=frame_series.ratio(rows["flicker"].mean, frame_series.mean_detail(facts)),
        acceleration_percent=100 * acceleration / height,
        acceleration_ratio=frame_series.ratio(acceleration, speed),
        moving_sharpness=frame_series.mean_sharpness(steps, shots),
        notes=(*notes, *_gone([one.drift for one in facts]), *estimate.notes),
    )
    return replace(found, notes=tuple(explain(found)))


def _gone(drifts: Sequence[float]) -> list[str]:
    gone = [index for index, value in enumerate(drifts) if index and math.isnan(value)]
    return [f"The masked region is not to be seen in {len(gone)} frames, first in frame {gone[0]}."] if gone else []


def _title(frames: Tensor, steps: Sequence[Step], speed: float, estimate: FlowEstimator) -> str:
    """Say in a line what the clip is, how much of it could be followed, and by which flow."""
    title = describe_size(frames)
    if not steps:
        return title
    matched = sum(step.matched for step in steps) / len(steps)
    title += f", {matched:.0%} of the pixels matched"
    if not math.isnan(speed):
        title += f", mean motion {speed:.2f} pixels per frame"
    return f"{title}, flow by {estimate.name}"


def to_text(metrics: ClipMetrics) -> str:
    """Write down title, table, what stands apart, and notes."""
    shares = (
        f"Frozen: {metrics.frozen:.0%} of the frames equal the one before. Loop: {metrics.loop:.0%} recur. "
        f"Last frame: {number(metrics.last_frame)} deviations above the others. "
        f"Flicker: {number(metrics.flicker_ratio)} pixels' worth of detail. "
        f"Acceleration: {number(metrics.acceleration_percent)} percent of the height, "
        f"{number(metrics.acceleration_ratio)} of the motion. "
        f"Sharpness of what moves: {number(metrics.moving_sharpness)}; blur over frames and ghosts lower it, and "
        "flicker and acceleration with it."
    )
    return "\n\n".join((metrics.title, to_table(metrics.series), shares, "\n".join(metrics.notes))).rstrip()
