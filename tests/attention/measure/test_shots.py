"""What in a clip is no motion: cuts, bad frames, loops, other scales than 0 to 1."""

from __future__ import annotations

import math

import pytest
import torch
from clips_made import make_pan, make_still

from attention.measure import compare, shots, temporal
from attention.measure.frames import Unmeasurable


def test_a_cut_is_listed_and_in_no_figure():
    parts = make_pan(2, 1, 6, 1), make_pan(-1, 2, 7, 2)
    found, alone = temporal.measure_clip(torch.cat(parts)), [temporal.measure_clip(part) for part in parts]
    assert found.shots.cuts == (6,) and found.shots.strays == () == found.shots.lost
    assert found.notes == ("Cuts: 1, at frame 6. They are in no figure.",)
    for name in ("motion", "flicker", "warp_error", "brightness"):
        values = getattr(found, name).values
        assert math.isnan(values[6])
        for own, value in zip((*getattr(alone[0], name).values, *getattr(alone[1], name).values), values):
            assert value == pytest.approx(own, rel=1e-4, abs=1e-9, nan_ok=True), name
    assert math.isnan(found.acceleration.values[6]) and math.isnan(found.acceleration.values[7])
    assert found.colour_drift.mean == pytest.approx(max(one.colour_drift.mean for one in alone), rel=1e-5)


def test_the_share_that_is_matched_is_that_inside_the_shots():
    """Of two still shots all of it: the first frame has none before it, and over a cut nothing matches."""
    found = temporal.measure_clip(torch.cat([make_still(3, 1), make_still(3, 2)]))
    assert found.shots.cuts == (3,)
    assert "91 x 70" in found.title and "100% of the pixels matched, mean motion 0.00 pixels per frame" in found.title


@pytest.mark.parametrize("at", [0, 4, 9])
@pytest.mark.parametrize("shade", [0.0, 1.0])
def test_a_black_or_white_frame_is_a_bad_frame_and_no_cut(at, shade):
    clip = make_pan(2, 1, 10)
    clip[at] = shade
    found = temporal.measure_clip(clip)
    assert found.shots.strays == (at,) and found.shots.cuts == () and f"Frame {at}: like neither" in found.notes[0]
    # It counts, and is found.
    assert (
        found.flicker.worst[0] in (at, at + 1)
        and found.flicker.mean > 5 * temporal.measure_clip(make_pan(2, 1, 10)).flicker.mean
    )


def test_frames_that_have_nothing_in_common_are_no_cuts():
    found = temporal.measure_clip(torch.cat([make_still(1, seed) for seed in range(6)]))
    assert found.shots.cuts == () and len(found.shots.lost) >= 4 and found.flicker.mean > 0.1
    assert any("noise, or it moves too far" in note for note in found.notes)


def test_what_jumps_in_a_flat_picture_is_no_cut():
    """No motion explains it, but next to nothing of the picture changes: the whole difference counts."""
    clip = 0.5 + 0.03 * (torch.cat([make_pan(1, 0, 5, 1), make_pan(1, 0, 5, 2)]) - 0.5)
    found = temporal.measure_clip(clip)
    assert found.shots.cuts == () and found.shots.lost == (5,)
    assert found.flicker.worst[0] == 5 and "No motion explains what changed at frame 5" in found.notes[0]


def test_two_frames_that_have_nothing_in_common_are_a_cut():
    found = temporal.measure_clip(torch.cat([make_still(1, 1), make_still(1, 2)]))
    assert found.shots.cuts == (1,) and math.isnan(found.flicker.mean) and math.isnan(found.motion.mean)


def test_what_blinks_in_a_still_scene_is_not_frozen():
    clip = make_still(8)
    clip[1::2, 20:23, 30:33] = 1 - clip[1::2, 20:23, 30:33]
    found = temporal.measure_clip(clip)
    assert (clip[1] - clip[0]).abs().mean() < shots.UNSEEN and found.frozen == 0


@pytest.mark.parametrize("order", [[n % 6 for n in range(20)], [min(n % 12, 12 - n % 12) for n in range(20)]])
def test_a_loop_recurs_and_a_pan_does_not(order):
    clip = make_pan(2, 1, 20)
    looped, plain = temporal.measure_clip(clip[order]), temporal.measure_clip(clip)
    assert looped.loop > 0.6 and any("recur" in note for note in looped.notes)
    assert plain.loop == 0 and plain.notes == ()


def test_a_last_frame_that_stands_out_is_told():
    clip = make_pan(2, 1, 12)
    clip[-1] = 0.8 * clip[-1] + 0.1
    found = temporal.measure_clip(clip)
    assert found.last_frame > 8 and found.flicker.worst[0] == 11
    assert found.notes == (f"The last frame stands out, by {found.last_frame:.0f} deviations of the others.",)
    assert math.isnan(temporal.measure_clip(clip[:5]).last_frame)


def test_growing_brightness_is_no_flicker():
    clip = make_pan(2, 1, 10) * torch.linspace(0.7, 1.1, 10)[:, None, None, None]
    found = temporal.measure_clip(clip)
    assert found.flicker.mean > 0.015 > 20 * found.brightness.mean


def test_eight_bits_are_measured_as_what_they_mean():
    clip = make_pan(2, 1)
    eight = (clip * 255).round().byte()
    bits, same = temporal.measure_clip(eight), temporal.measure_clip(eight.float() / 255)
    assert bits.figures == pytest.approx(same.figures, nan_ok=True) and bits.flicker.mean < 0.1
    assert compare.compare_clips(clip, eight).psnr.mean > 50


@pytest.mark.parametrize(
    "clip, words",
    [
        (255 * make_pan(2, 1), "Frame 0 holds values up to 2"),
        ((255 * make_pan(2, 1)).int(), "Frames of int32 cannot be measured"),
        (make_pan(2, 1) > 0.5, "Frames of bool cannot be measured"),
    ],
)
def test_another_scale_is_a_sentence(clip, words):
    with pytest.raises(Unmeasurable, match=words):
        temporal.measure_clip(clip)
    with pytest.raises(Unmeasurable, match=words):
        compare.compare_clips(clip, clip)
