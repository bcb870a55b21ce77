"""Windows over the frames of a long clip: where they lie, how they are blended, how long they are.

Spans are (first, end) in latent frames, `end` not included. Where frames do not hold equally many pictures, every
window begins with a frame of the same kind as the clip's first: at a multiple of `period` frames.
"""

from __future__ import annotations

from itertools import pairwise

import torch

from .lengths import begin_of

Span = tuple[int, int]


def split(frames: int, length: int, overlap: int, period: int = 1) -> list[Span]:
    """Cut a clip into windows, evenly spread.

    frames: of the clip.
    length: frames of each window, of `fit`; one window of all frames where they fit.
    overlap: frames that neighbours share at least. ValueError unless 0 <= overlap <= length - period.
    period: frames after which windows may begin.
    """
    check(length, overlap, period)
    if frames <= length:
        return [(0, frames)]
    room, most = (frames - length) // period, (length - overlap) // period
    gaps = -(-room // most)
    starts = [period * round(i * room / gaps) for i in range(gaps + 1)]
    return [(start, start + length) for start in starts]


def next_span(done: int, frames: int, length: int, overlap: int, period: int = 1) -> Span:
    """Return the window that goes on after `done` finished frames of `frames`.

    length: of the window, of `fit`, where the clip has as many; the last one reaches back.
    overlap: finished frames that it sees at least.
    period: frames after which it may begin.
    """
    check(length, overlap, period)
    first = max(0, min(done - overlap, frames - length))
    first -= first % period
    return first, min(first + length, frames)


def count_spans(frames: int, length: int, overlap: int, period: int = 1, done: int = 0) -> int:
    """Count the windows that `next_span` makes of the frames after `done`."""
    found = 0
    while done < frames:
        done = next_span(done, frames, length, overlap, period)[1]
        found += 1
    return found


def check(length: int, overlap: int, period: int = 1) -> None:
    """Raise ValueError unless windows of `length` frames can share `overlap` of them and still go on."""
    if 0 <= overlap <= length - period:
        return
    if period == 1:
        raise ValueError(f"overlap: {overlap} latent frames must be fewer than the window's {length}.")
    raise ValueError(
        f"overlap: {overlap} latent frames must be at least {period} fewer than the window's {length}: windows of this "
        f"model begin at every {period}th frame."
    )


def fit(length: int, frames: int, period: int = 1) -> int:
    """Return the longest window of at most `length` frames that can end with a clip of `frames`, one at least."""
    least = (frames - 1) % period + 1
    return max(least, length - (length - least) % period)


def shrink(length: int, overlap: int, period: int = 1) -> int | None:
    """Return the next length to try when memory ran out: about three quarters; None where `overlap` allows no smaller
    one.
    """
    if length - period < overlap + period:
        return None
    wanted = max(overlap + period, length * 3 // 4)
    return length - period * max(1, (length - wanted) // period)


def joints(spans: list[Span]) -> list[Span]:
    """Return, for each pair of neighbours, the frames whose step from the frame before is not within one window."""
    return [(after[0], before[1] + 1) for before, after in pairwise(spans)]


def blend_weights(length: int, overlap: int, first: bool, last: bool) -> torch.Tensor:
    """Return the weights (length,) of a window: they rise over its first frames and fall over its last ones.

    All are above 0 and meant to be divided by their sum over all windows.

    overlap: frames over which they rise and fall.
    first: whether no window is before it.
    last: whether no window is behind it.
    """
    up = (torch.arange(length, dtype=torch.float32) + 1) / (overlap + 1)
    weights = torch.ones(length)
    if not first:
        weights = torch.minimum(weights, up)
    return weights if last else torch.minimum(weights, up.flip(0))


def with_references(span: Span, references: int) -> list[int]:
    """Return the frames of a window, with those at the begin of the clip that are references in front of them.

    references: how many these are.
    """
    return [*range(min(references, span[0])), *range(*span)]


def blend_weights_of(frames: list[int], total: int, overlap: int) -> torch.Tensor:
    """Return `blend_weights` for a window of these frames of `total`; references in front of it weigh nothing."""
    lead = next((i for i, (one, after) in enumerate(pairwise(frames), 1) if after != one + 1), 0)
    body = frames[lead:]
    weights = blend_weights(len(body), overlap, body[0] == 0, body[-1] == total - 1)
    return torch.cat([torch.zeros(lead), weights])


def in_other_stream(frame: int, total: int, other: int, sizes: tuple[int, ...] = ()) -> int:
    """Return where a frame of a stream of `total` is in another one of `other` frames, sound for example.

    sizes: pictures in each frame, over and over; () where all count alike.
    """
    if sizes:
        frame, total = (begin_of(at, 1, sizes) for at in (frame, total))
    return min(other, round(frame * other / total))


def frames_of_seconds(seconds: float, rate: float, ratio: int) -> int:
    """Return the latent frames that last `seconds`.

    rate: pictures a second.
    ratio: pictures that one latent frame holds.
    """
    return max(0, round(seconds * rate / ratio))
