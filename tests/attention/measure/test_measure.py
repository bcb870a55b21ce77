"""Measures of clips that are made so that the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
from clips_made import FRAMES, HEIGHT, WIDTH, make_object, make_pan, make_still, noise, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from attention.measure import compare, flow, temporal
from attention.measure.frames import Unmeasurable


def picture(frame):
    return frame.movedim(-1, 0)[None]


def luma_flow(first, second):
    return flow.estimate_flow(*(picture(frame).mean(1, keepdim=True) for frame in (first, second)))


# --- optical flow ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns, rows", [(1, 0), (0, -1), (3, 2), (-7, 4), (0, 12), (25, -9)])
def test_flow_of_a_pan(columns, rows):
    clip = make_pan(columns, rows, 2)
    there, back = luma_flow(clip[0], clip[1]), luma_flow(clip[1], clip[0])
    matched = flow.find_matched(there, back)
    error = (there - torch.tensor([columns, rows]).view(1, 2, 1, 1)).norm(dim=1, keepdim=True)
    assert error[matched].mean() < 0.2
    # What leaves the frame has no match, almost all of the rest has one.
    stays = (1 - abs(columns) / WIDTH) * (1 - abs(rows) / HEIGHT)
    assert 0.85 * stays < matched.float().mean() <= stays + 0.05


def test_flow_of_a_rotation():
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) - 35.0, torch.arange(WIDTH) - 45.0, indexing="ij")
    true = torch.stack([-0.05 * rows, 0.05 * columns])[None]
    second = picture(texture()).mean(1, keepdim=True)
    error = (flow.estimate_flow(flow.warp(second, true, "bicubic"), second) - true).norm(dim=1)
    assert true.norm(dim=1).mean() > 1.0 and error[:, 5:-5, 5:-5].mean() < 0.2


def test_flow_of_an_object_over_a_background():
    clip, _ = make_object([3, 3], step=4)
    found = luma_flow(*clip)[0]
    assert (found[:, 28:42, 28:42].mean((1, 2)) - torch.tensor([4.0, 0.0])).norm() < 0.4
    assert found[:, :, 70:].norm(dim=0).mean() < 0.1


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("axis", "signs"), [(3, (-1.0, 1.0)), (2, (1.0, -1.0))])
def test_mirrored_frames_have_the_mirrored_flow(seed, axis, signs):
    """Frames that have nothing in common: every bound on the motion is reached somewhere, on each side alike."""
    random = torch.Generator().manual_seed(seed)
    first, second = (F.avg_pool2d(torch.rand(1, 1, 70, 91, generator=random), 5, 1, 2) for _ in range(2))
    found = flow.estimate_flow(first, second)
    mirrored = flow.estimate_flow(first.flip(axis), second.flip(axis)).flip(axis)
    assert found.abs().mean() > 0.5
    assert (mirrored * torch.tensor(signs).view(1, 2, 1, 1) - found).abs().mean() < 2e-3


@pytest.mark.parametrize("gain, offset, most", [(1.0, 0.0, 1e-6), (1.0, 0.1, 1e-3), (0.7, 0.0, 0.05), (0.8, 0.2, 0.05)])
def test_flow_does_not_see_brightness(gain, offset, most):
    frame = texture()
    assert luma_flow(frame, gain * frame + offset).abs().mean() < most


def test_a_large_frame_is_searched_small_and_answered_in_its_own_pixels():
    large = texture(200, 3 * flow.WORKING_SIZE, grain=24)
    found = luma_flow(large[:, 20:-20], large[:, 14:-26])  # the picture moves right
    inner = found[..., 30:-30, 60:-60]
    assert found.shape[3] == 3 * flow.WORKING_SIZE - 40
    assert abs(inner[:, 0].mean() - 6) < 0.3 and inner[:, 1].abs().mean() < 0.3


def test_warping_by_whole_pixels_is_a_shift():
    x = picture(texture())
    moved = flow.warp(x, torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, HEIGHT, WIDTH))
    assert torch.allclose(moved[..., 1:, :-2], x[..., :-1, 2:], atol=1e-4)


# --- measures of one clip --------------------------------------------------------------------------------------------


def test_a_frozen_clip_is_not_steady_but_frozen():
    found = temporal.measure_clip(make_still())
    assert found.frozen == 1 and found.motion.mean == 0 and found.colour_drift.mean < 1e-6
    for name in ("flicker", "warp_error", "acceleration", "drift", "brightness"):
        assert math.isnan(getattr(found, name).mean), name
    assert found.notes == ("Every frame equals the one before: the clip is frozen, and its steadiness says nothing.",)


def test_a_scene_that_hardly_moves_is_steady_and_says_so():
    clip = make_still() + 0.004 * noise((FRAMES, HEIGHT, WIDTH, 3))
    found = temporal.measure_clip(clip)
    assert found.frozen == 0 and found.motion.mean < 0.05 and 0.003 < found.flicker.mean < 0.006
    assert found.brightness.mean < 2e-4 and found.drift.mean < 0.01
    assert len(found.notes) == 1 and found.notes[0].startswith("Next to nothing moves")


@settings(max_examples=8)
@given(amplitude=st.floats(0.002, 0.2))
def test_flicker_is_its_amplitude(amplitude):
    clip = make_still()
    clip[1::2] += amplitude
    found = temporal.measure_clip(clip)
    assert found.flicker.mean == pytest.approx(amplitude, rel=0.01, abs=1e-4)
    assert found.warp_error.mean == pytest.approx(amplitude**2, rel=0.02, abs=1e-6)
    assert found.brightness.mean == pytest.approx(amplitude, rel=0.01, abs=1e-4)


def test_motion_explains_a_pan_but_not_its_flicker():
    clip = make_pan(3, -2)
    plain = temporal.measure_clip(clip)
    clip[1::2] += 0.1
    flickering = temporal.measure_clip(clip)
    raw = (clip[2:] - clip[:-2]).abs().mean().item()
    assert plain.flicker.mean < 0.1 * raw
    assert flickering.flicker.mean == pytest.approx(0.1, rel=0.1)
    assert flickering.acceleration.mean == pytest.approx(plain.acceleration.mean, abs=0.02)
    assert "mean motion 3." in plain.title


@pytest.mark.parametrize("name", ["flicker", "warp_error"])
def test_more_flicker_is_more(name):
    def measure(amplitude):
        clip = make_pan(2, 1)
        clip[1::2] += amplitude
        return getattr(temporal.measure_clip(clip), name).mean

    found = [measure(amplitude) for amplitude in (0.0, 0.02, 0.05, 0.1)]
    assert found == sorted(found) and found[-1] > 2 * found[1]


def test_more_noise_is_more():
    clip = make_pan(2, 1)
    found = [temporal.measure_clip(clip + s * noise(clip.shape)) for s in (0.0, 0.02, 0.05, 0.1)]
    for name in ("flicker", "warp_error", "acceleration"):
        values = [getattr(one, name).mean for one in found]
        assert values == sorted(values), name


@pytest.mark.parametrize("jump", [1, 2, 4])
def test_acceleration_of_a_jitter(jump):
    large = texture(HEIGHT + 8, WIDTH + 8)
    clip = torch.stack([large[:HEIGHT, jump * (n % 2) :][:, :WIDTH] for n in range(FRAMES)])
    # There and back again: the flow changes by twice the jump at every frame.
    assert temporal.measure_clip(clip).acceleration.mean == pytest.approx(2 * jump, rel=0.1)


def test_even_motion_has_little_acceleration():
    found = temporal.measure_clip(make_pan(4, 0)).acceleration
    assert math.isnan(found.values[0]) and math.isnan(found.values[1]) and found.mean < 0.25


@pytest.mark.parametrize("at", [2, 3, 5])
def test_an_identity_swap_is_found_where_it_is(at):
    clip, mask = make_object([3] * at + [8] * (7 - at))
    drift = temporal.measure_clip(clip, mask).drift.values
    before, after = drift[1:at], drift[at:]
    assert max(before) < 0.02 and min(after) > 3 * max(before) and min(after) > 0.1


def test_identity_stays_while_the_object_moves():
    clip, mask = make_object([3] * 7)
    masked, whole = (temporal.measure_clip(clip, chosen).drift.mean for chosen in (mask, None))
    still = temporal.measure_clip(clip, mask.expand(7, -1, -1)).drift.mean
    # A mask that stays behind sees the object leave.
    assert masked < 0.02 < still and whole > masked


def test_more_of_another_identity_is_more():
    first, mask = make_object([3] * 4)
    other, _ = make_object([8] * 4)
    found = []
    for share in (0.0, 0.25, 0.5, 1.0):
        clip = first.clone()
        clip[2:] = torch.lerp(first[2:], other[2:], share)
        found.append(temporal.measure_clip(clip, mask).drift.mean)
    assert found == sorted(found) and found[0] < 0.02 and found[-1] > 3 * found[1]


def test_blur_is_less_sharp():
    clip, found = make_still(2), []
    for half in (0, 1, 2, 4):
        blurred = F.avg_pool2d(clip.movedim(-1, 1), 2 * half + 1, 1, half, count_include_pad=False).movedim(1, -1)
        found.append(temporal.measure_clip(blurred).sharpness.mean)
    assert found == sorted(found, reverse=True) and found[0] > 2 * found[-1]


def test_sharpness_of_a_checkerboard():
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    board = ((rows + columns) % 2).float().expand(1, 3, 40, 40)
    # Inside, the Laplacian is 4 or -4; a border cell has an equal neighbour, its own copy.
    assert 14 < temporal.measure_sharpness(board) < 16
    assert temporal.measure_sharpness(torch.full((1, 3, 5, 5), 0.3)) < 1e-9


# --- what cannot be measured, and odd clips --------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.tuples(*(st.integers(1, top) for top in (4, 40, 40, 4))))
def test_any_size_can_be_measured(shape):
    clip = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = temporal.measure_clip(clip)
    assert all(len(one.values) == len(clip) for one in found.series)
    assert all(value >= 0 for one in found.series for value in one.values if not math.isnan(value))
    # Two frames that no motion joins are two shots.
    assert math.isnan(found.flicker.mean) is (len(clip) == 1 or found.shots.cuts == (1,) and len(clip) == 2)
    assert compare.compare_clips(clip, clip).ssim.mean == pytest.approx(1.0, abs=1e-4)


def test_too_few_frames_are_a_sentence():
    one, two = (temporal.measure_clip(make_still(count)) for count in (1, 2))
    assert one.notes == ("One frame: only its sharpness can be measured.",) and one.sharpness.mean > 0
    assert all(math.isnan(series.mean) for series in one.series if series is not one.sharpness)
    assert two.notes[0] == "Acceleration needs three frames." and math.isnan(two.acceleration.mean)
    assert "not measured" in temporal.to_text(one)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_a_sentence(value):
    clip = make_still(3)
    clip[1, 5, 5, 0] = value
    with pytest.raises(Unmeasurable, match="Frame 1 holds NaN or Inf"):
        temporal.measure_clip(clip)
    with pytest.raises(Unmeasurable, match="Frame 1 holds NaN or Inf"):
        compare.compare_clips(make_still(3), clip)
    with pytest.raises(Unmeasurable, match="mask holds NaN"):
        temporal.measure_clip(make_still(2), torch.full((1, 8, 8), value))


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (8, 8, 3)])
def test_no_clip_is_a_sentence(shape):
    with pytest.raises(Unmeasurable, match="are no clip"):
        temporal.measure_clip(torch.zeros(shape))


def test_masks_that_do_not_fit_are_told():
    clip = make_pan(1, 0, 3)
    assert "The mask is empty" in temporal.measure_clip(clip, torch.zeros(1, 64, 64)).notes[0]
    assert temporal.measure_clip(clip, torch.ones(2, 9, 9)).notes == (
        "2 masks for 3 frames: the first one is followed.",
    )
    masks = torch.ones(3, HEIGHT, WIDTH)
    masks[1] = 0
    gone = temporal.measure_clip(clip, masks)
    assert gone.notes == ("The masked region is not to be seen in 1 frames, first in frame 1.",)
    assert math.isnan(gone.drift.values[1]) and gone.drift.values[2] < 0.05


def test_own_features_are_compared():
    clip, mask = make_object([3] * 4)
    angles, seen = iter((0.0, 0.0, math.pi / 3, math.pi)), []

    def encode(box):
        seen.append(tuple(box.shape))
        angle = next(angles)
        return torch.tensor([[math.cos(angle), math.sin(angle)]])

    assert temporal.measure_clip(clip, mask, encode).drift.values[1:] == pytest.approx((0.0, 0.5, 2.0), abs=1e-6)
    assert seen[0] == (1, 30, 30, 3) and all(abs(n - 30) <= 2 for box in seen for n in box[1:3])
