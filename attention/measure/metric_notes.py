"""What to think of a clip's figures, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

# Percent of the height per frame: below, next to nothing moves. Shares from which frozen and recurring frames are told,
# and deviations from which a last frame is.
STILL, FROZEN, LOOP, OUTLIER = 0.05, 0.1, 0.5, 8.0
LISTED = 12


def explain(metrics) -> list[str]:
    """Write the notes of a `ClipMetrics` behind those that it has, each a sentence or two."""
    return [*_missing(metrics), *metrics.notes, *_breaks(metrics.shots), *_repetition(metrics), *_last(metrics)]


def _missing(metrics) -> list[str]:
    count = len(metrics.sharpness.values)
    if count > 2:
        return []
    return ["One frame: only its sharpness can be measured." if count == 1 else "Acceleration needs three frames."]


def _breaks(shots) -> list[str]:
    said = []
    if shots.cuts:
        said.append(f"Cuts: {len(shots.cuts)}, at frame {_list(shots.cuts)}. They are in no figure.")
    if shots.strays:
        said.append(f"Frame {_list(shots.strays)}: like neither neighbour, a bad frame.")
    if shots.lost:
        said.append(f"No motion explains what changed at frame {_list(shots.lost)}: noise, or it moves too far.")
    return said


def _repetition(metrics) -> list[str]:
    said, count = [], len(metrics.shots.repeats)
    if metrics.frozen == 1:
        said.append("Every frame equals the one before: the clip is frozen, and its steadiness says nothing.")
    elif metrics.frozen >= FROZEN:
        said.append(f"{count} frames equal the one before, frozen or doubled; the figures are of the others.")
    elif metrics.motion.mean < STILL:
        said.append(f"Next to nothing moves ({metrics.motion.mean:.2g} % of the height): steadiness says little.")
    if metrics.loop >= LOOP:
        said.append(f"{metrics.loop:.0%} of the frames recur: a loop, or something that moves to and fro.")
    return said


def _last(metrics) -> list[str]:
    if not metrics.last_frame > OUTLIER:
        return []
    return [f"The last frame stands out, by {metrics.last_frame:.0f} deviations of the others."]


def _list(frames: Sequence[int]) -> str:
    more = f" and {len(frames) - LISTED} more" if len(frames) > LISTED else ""
    return ", ".join(map(str, frames[:LISTED])) + more
