"""Schedules, windows and seams: the arithmetic of the sampling nodes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from attention.sampling import schedule, seams, windows

FRAMES, LENGTHS, OVERLAPS = st.integers(1, 200), st.integers(1, 60), st.integers(0, 59)


@given(FRAMES, LENGTHS, OVERLAPS)
def test_windows_cover_and_share(frames, length, overlap):
    assume(overlap < length)
    spans = windows.split(frames, length, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == frames
    assert {end - first for first, end in spans} == {min(length, frames)}
    shared = [before[1] - after[0] for before, after in zip(spans, spans[1:], strict=False)]
    assert all(overlap <= s < length for s in shared)
    assert not shared or max(shared) - min(shared) <= 1, "evenly spread"


@given(FRAMES, LENGTHS, OVERLAPS)
def test_no_fewer_windows_would_do(frames, length, overlap):
    assume(overlap < length < frames)
    count = len(windows.split(frames, length, overlap))
    assert (count - 1) * length - (count - 2) * overlap < frames <= count * length - (count - 1) * overlap


@given(FRAMES, LENGTHS, OVERLAPS)
def test_extension_goes_on_and_ends(frames, length, overlap):
    assume(overlap < length)
    done, made = 0, 0
    while done < frames:
        first, end = windows.next_span(done, frames, length, overlap)
        assert end > done and end - first == min(length, frames) and (done == 0 or first <= max(0, done - overlap))
        done, made = end, made + 1
    assert made == windows.count_spans(frames, length, overlap) == len(windows.split(frames, length, overlap))


@given(LENGTHS, OVERLAPS, st.booleans(), st.booleans())
def test_weights_rise_and_fall(length, overlap, first, last):
    assume(overlap < length)
    weights = windows.blend_weights(length, overlap, first, last)
    assert weights.shape == (length,) and weights.min() > 0 and weights.max() <= 1
    assert torch.equal(weights, windows.blend_weights(length, overlap, last, first).flip(0))
    assert not (first and last) or torch.equal(weights, torch.ones(length))


def test_neighbours_pass_from_one_to_the_other():
    fall, rise = windows.blend_weights(6, 3, True, False)[3:], windows.blend_weights(6, 3, False, True)[:3]
    assert rise.tolist() == pytest.approx([0.25, 0.5, 0.75]) and (fall + rise).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("references", [0, 2])
def test_a_clip_begins_and_ends_with_all_its_weight(references):
    """Windows of 6 over 14 frames: only where another window is do they rise and fall; references weigh nothing."""
    spans, found = windows.split(14, 6, 2), []
    assert spans == [(0, 6), (4, 10), (8, 14)]
    for span in spans:
        frames = windows.with_references(span, references)
        weights = windows.blend_weights_of(frames, 14, 2).tolist()
        lead = len(frames) - 6
        assert weights[:lead] == [0.0] * lead == [0.0] * (references if span[0] else 0)
        found.append(weights[lead:])
    rise, fall = [pytest.approx(1 / 3), pytest.approx(2 / 3)], [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert found == [[1.0] * 4 + fall, rise + [1.0] * 2 + fall, rise + [1.0] * 4]


@pytest.mark.parametrize(("length", "overlap"), [(4, 4), (4, 5), (4, -1), (0, 0)])
def test_an_overlap_that_cannot_be(length, overlap):
    with pytest.raises(ValueError, match="must be fewer than the window"):
        windows.split(10, length, overlap)
    with pytest.raises(ValueError, match="must be fewer than the window"):
        windows.next_span(0, 10, length, overlap)


@given(LENGTHS, OVERLAPS)
def test_smaller_windows_come_to_an_end(length, overlap):
    assume(overlap < length)
    while (after := windows.shrink(length, overlap)) is not None:
        assert overlap < after < length
        length = after
    assert length == overlap + 1


PERIODS = st.integers(1, 6)


@given(FRAMES, LENGTHS, OVERLAPS, PERIODS)
def test_windows_begin_where_frames_are_of_one_kind(frames, length, overlap, period):
    length = windows.fit(length, frames, period)
    assert length >= 1 and (frames - length) % period == 0
    if overlap > length - period:
        for cut in (
            lambda: windows.split(frames, length, overlap, period),
            lambda: windows.check(length, overlap, period),
        ):
            with pytest.raises(ValueError, match="^overlap: .* fewer than the window's"):
                cut()
        return
    spans, done = windows.split(frames, length, overlap, period), 0
    assert spans[0][0] == 0 and spans[-1][1] == frames and all(first % period == 0 for first, _ in spans)
    assert all(b[1] - a[0] >= overlap and a[0] > b[0] for b, a in zip(spans, spans[1:], strict=False))
    made = []
    while done < frames:
        first, end = windows.next_span(done, frames, length, overlap, period)
        assert first % period == 0 and end > done and (not done or first <= max(0, done - overlap))
        made, done = [*made, (first, end)], end
    assert done == frames and windows.count_spans(frames, length, overlap, period) == len(made)
    while (after := windows.shrink(length, overlap, period)) is not None:
        assert overlap + period <= after < length and (length - after) % period == 0
        length = after
    assert length < overlap + 2 * period


def test_time_of_another_stream_by_pictures():
    """MiniMax-H3: 37 latent frames are 124 pictures at 24 a second, 207 samples at 40."""
    sizes = (1, 4, 4, 4, 4)
    assert [windows.in_other_stream(at, 37, 207, sizes) for at in (0, 1, 5, 10, 37)] == [0, 2, 28, 57, 207]


def test_time_of_another_stream():
    assert [windows.in_other_stream(at, 10, 25) for at in (0, 4, 10)] == [0, 10, 25]
    assert windows.frames_of_seconds(2.0, 24.0, 8) == 6


# --- seams -----------------------------------------------------------------------------------------------------------


def moving(frames, jump_at=None, jump=3.0):
    """A clip that changes by 1 from frame to frame, and by `jump` at one of them."""
    step = torch.ones(frames)
    if jump_at is not None:
        step[jump_at] = jump
    return step.cumsum(0).view(1, 1, frames, 1, 1).expand(2, 3, frames, 4, 5)


def test_a_jump_is_a_seam():
    found = seams.seams(moving(12, jump_at=5), [(5, 6), (9, 10)])
    assert [(s.frame, s.ratio) for s in found] == [(5, pytest.approx(3.0)), (9, pytest.approx(1.0))]
    assert seams.worst(found) == pytest.approx(3.0) and seams.to_text(found) == "at 5: 3.00, at 9: 1.00"


@pytest.mark.parametrize("at", [4, 5, 6])
def test_a_jump_anywhere_in_the_joint(at):
    clip = moving(12, jump_at=at)
    assert seams.seams(clip, [(4, 7)])[0].ratio == pytest.approx(3.0)
    assert seams.seams(clip, [(7, 9)])[0].ratio == pytest.approx(1.0)


def test_noisy_channels_hide_no_jump():
    random = torch.Generator().manual_seed(0)
    clip = moving(16, jump_at=8).clone()
    noisy = 50 * torch.randn(2, 40, 16, 4, 5, generator=random)
    found = seams.seams(torch.cat([clip, noisy], dim=1), [(5, 6), (8, 9), (12, 13)])
    assert found[1].ratio > 1.8 and max(found[0].ratio, found[2].ratio) < 1.5


def test_joints_of_a_plan():
    assert windows.joints(windows.split(9, 6, 3)) == [(3, 7)]
    assert windows.joints(windows.split(8, 4, 0)) == [(4, 5)]
    assert windows.joints([(0, 8)]) == []


def test_still_clips():
    still = torch.ones(1, 2, 6, 3, 3)
    assert seams.seams(still, [(3, 4)])[0].ratio == 1.0
    jump = still.clone()
    jump[:, :, 3:] = 2.0
    assert seams.seams(jump, [(3, 4)])[0].ratio == math.inf
    assert seams.seams(still[:, :, :1], []) == () and seams.worst(()) == 0.0
    assert seams.seams(moving(4), [(1, 4)])[0].ratio == pytest.approx(1.0), "nothing but joints"


# --- schedules -------------------------------------------------------------------------------------------------------


def test_the_switch_of_two_experts():
    sigmas = torch.tensor([1.0, 0.95, 0.875, 0.6, 0.0])
    assert [schedule.switch_step(sigmas, b) for b in (1.1, 1.0, 0.9, 0.875, 0.5, 0.0)] == [0, 1, 2, 3, 4, 4]


def test_part_of_a_schedule():
    assert [schedule.full_length(20, part) for part in (1.0, 0.5)] == [20, 40] and schedule.full_length(10, 0.3) == 33


def flow(shift):
    return lambda percent: shift * (1 - percent) / (1 + (shift - 1) * (1 - percent)) if 0 < percent < 1 else 1 - percent


@given(st.floats(1.0, 12.0), st.integers(1, 60), st.data())
def test_percents_cover_the_steps_they_stand_for(shift, steps, data):
    """As the host tells them apart: a step is covered from the percent's noise level down to that of the other."""
    to_sigma = flow(shift)
    sigmas = [to_sigma(i / steps) for i in range(steps + 1)]
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(first, steps - 1))
    start, end = schedule.percent_range(sigmas, first, last, to_sigma)
    covered = [i for i in range(steps) if to_sigma(end) < sigmas[i] <= (to_sigma(start) if start else 2.0)]
    assert covered == list(range(first, last + 1)) and 0.0 <= start < end <= 1.0


def test_no_percent_between_equal_steps():
    with pytest.raises(ValueError, match="steps 2 and 3 begin at 0.5 and 0.5, too near"):
        schedule.percent_range([1.0, 0.5, 0.5, 0.0], 2, 2, flow(1.0))


def test_shift_of_ltx():
    assert [schedule.ltxv_shift(n, 0.95, 2.05) for n in (1024, 4096)] == [pytest.approx(0.95), pytest.approx(2.05)]
