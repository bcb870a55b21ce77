"""Windows over the frames of a long clip: where they lie, how they are blended, how long they are.

Spans are (first, end) in latent frames, `end` not included.
"""

from __future__ import annotations

from itertools import pairwise

import torch

Span = tuple[int, int]


def plan(frames: int, length: int, overlap: int) -> list[Span]:
    """Windows of `length` frames, evenly spread, neighbours sharing `overlap` frames at least.

    One window of all frames when they fit. ValueError unless 0 <= overlap < length.
    """
    check(length, overlap)
    if frames <= length:
        return [(0, frames)]
    gaps = -(-(frames - length) // (length - overlap))
    starts = [round(i * (frames - length) / gaps) for i in range(gaps + 1)]
    return [(start, start + length) for start in starts]


def following(done: int, frames: int, length: int, overlap: int) -> Span:
    """The window that goes on after `done` finished frames and sees the last `overlap` of them at least.

    It is as long as `length` where the clip allows: the last one reaches back.
    """
    check(length, overlap)
    first = max(0, min(done - overlap, frames - length))
    return first, min(first + length, frames)


def count(frames: int, length: int, overlap: int, done: int = 0) -> int:
    """How many windows `following` makes of the frames after `done`."""
    found = 0
    while done < frames:
        done = following(done, frames, length, overlap)[1]
        found += 1
    return found


def check(length: int, overlap: int) -> None:
    if not 0 <= overlap < length:
        raise ValueError(f"overlap: {overlap} latent frames must be fewer than the window's {length}.")


def smaller(length: int, overlap: int) -> int | None:
    """The next window to try when memory ran out: three quarters; None when it is as small as `overlap` allows."""
    return max(overlap + 1, length * 3 // 4) if length > overlap + 1 else None


def joints(spans: list[Span]) -> list[Span]:
    """Between neighbours: the frames whose step from the frame before is not within one window alone."""
    return [(after[0], before[1] + 1) for before, after in pairwise(spans)]


def ramp(length: int, overlap: int, first: bool, last: bool) -> torch.Tensor:
    """(length,) weights of a window: rising over its first `overlap` frames and falling over its last ones.

    They are above 0 and meant to be divided by their sum over all windows. first, last: nothing overlaps there.
    """
    up = (torch.arange(length, dtype=torch.float32) + 1) / (overlap + 1)
    weights = torch.ones(length)
    if not first:
        weights = torch.minimum(weights, up)
    return weights if last else torch.minimum(weights, up.flip(0))


def with_lead(span: Span, lead: int) -> list[int]:
    """The frames of a window. lead: that many frames at the begin of the clip, references, are in front of each one."""
    return [*range(min(lead, span[0])), *range(*span)]


def ramp_behind(frames: list[int], total: int, overlap: int) -> torch.Tensor:
    """As `ramp` for a window of these frames of `total`; references in front of it count nothing."""
    lead = next((i for i, (one, after) in enumerate(pairwise(frames), 1) if after != one + 1), 0)
    body = frames[lead:]
    weights = ramp(len(body), overlap, body[0] == 0, body[-1] == total - 1)
    return torch.cat([torch.zeros(lead), weights])


def scaled(frames: int, total: int, other: int) -> int:
    """Frame `frames` of a stream of `total` in the time of another stream of `other` frames, sound for example."""
    return min(other, round(frames * other / total))


def of_seconds(seconds: float, rate: float, ratio: int) -> int:
    """Latent frames that last `seconds`. rate: pictures a second; ratio: pictures that one latent frame holds."""
    return max(0, round(seconds * rate / ratio))
