"""Clips against the drawn truth: no figure ranks a damaged clip above the truth in what it is for.

Where a fault does make a figure look better, something else that the node says tells of it.
"""

from __future__ import annotations

import math
from functools import cache

import drawn_faults
import pytest
import torch

from attention.core.reference import relative_l2
from attention.measure import compare, temporal
from attention.measure.motion_meter import Moves
from attention.measure.series import Series
from attention.measure.verdict import judge
from attention.plans.verify import VerifiedSampling, to_text

COUNT, SIZE = 12, 64
# Three prompts whose first shape is in front, so that what changes of it is seen; each fault is tried on one of them.
SEEDS = (2, 3, 5)
HALVES = {f"{name}, half": drawn_faults.weaken(drawn_faults.FAULTS[name]) for name in drawn_faults.GRADED[:3]}
FAULTS = {**drawn_faults.FAULTS, **HALVES}
BAD_FRAMES = ("bad last frame", "black frame")
FLICKERS = ("brightness flicker, 1 %", "brightness flicker, 4 %", "brightness flicker, 4 %, half")
NOISE = ("noise, 3 %", "noise, 3 %, half")
UNEVEN = (
    "jitter, 3 pixels", "dropped frames", "doubled frames", "uneven speed", "seam", "loop of 5 frames",
    "loop to and fro", "shapes jump", "size shakes", "turn shakes", "order to and fro", "colour to and fro",
    "another colour at half time",
)  # fmt: skip
# Which faults each figure is for, and by what factor it must be worse at least. Less is better, but below.
FOR = {
    "brightness flicker": (20, (*FLICKERS, "seam")),
    "flicker": (1.15, (*FLICKERS, *NOISE, *BAD_FRAMES, "jitter, 3 pixels", "seam")),
    "flicker over detail": (1.15, (*FLICKERS, *NOISE, *BAD_FRAMES, "jitter, 3 pixels", "seam", "mosaic")),
    "warping error": (
        1.3, ("brightness flicker, 4 %", *NOISE, *BAD_FRAMES, "order to and fro", "colour to and fro"),
    ),
    "acceleration": (1.2, UNEVEN),
    "acceleration over motion": (1.2, UNEVEN),
    "identity drift": (1.25, ("colours turn warm", "colours burn", *BAD_FRAMES)),
    "colour drift": (1.5, ("colours turn warm", "colours burn", "colour creeps")),
    "motion": (1.4, ("doubled frames", "frozen from half time", "frozen")),
    "sharpness": (1.5, ("blur, 5 pixels", "mosaic")),
    "sharpness of what moves": (
        1.2, ("blur over 5 frames", "blur over 5 frames, half", "ghosting", "blur, 5 pixels", "mosaic"),
    ),
}  # fmt: skip
MORE = ("motion", "sharpness", "sharpness of what moves")
# Shares, counts and deviations: 0 or so without the fault, at least so much with it.
PLAIN = {
    "frozen share": (0.3, ("doubled frames", "frozen from half time", "frozen")),
    "loop share": (0.5, ("loop of 5 frames", "loop to and fro")),
    "cuts": (1, ("cut",)),
    "last frame": (8, ("bad last frame",)),
}
# What looks steadier than the truth by a fifth: the sentence that says so, or the figure that is worse.
STEADY = (
    "flicker",
    "flicker over detail",
    "warping error",
    "acceleration",
    "acceleration over motion",
    "identity drift",
)
TOLD = {
    "doubled frames": "equal the one before",
    "frozen from half time": "equal the one before",
    "frozen": "the clip is frozen",
    "loop of 5 frames": "recur",
    "loop to and fro": "recur",
    "cut": "Cuts: 1, at frame 6",
    "blur over 5 frames": "sharpness of what moves",
    "blur over 5 frames, half": "sharpness of what moves",
    "ghosting": "sharpness of what moves",
    "blur, 5 pixels": "sharpness",
    # Where they are, little matches: flicker and warping error are of the rest.
    "shapes jump": "acceleration",
    "turn shakes": "acceleration",
    "colour to and fro": "acceleration",
}
# What no figure of the whole frame sees: a mask for each frame is for it.
MASKED = ("another form at half time", "form creeps")


def seed_of(fault: str) -> int:
    return SEEDS[list(drawn_faults.FAULTS).index(fault.removesuffix(", half")) % len(SEEDS)]


def shot(fault: str) -> drawn_faults.Shot:
    return make_shot(seed_of(fault))


@cache
def make_shot(seed: int) -> drawn_faults.Shot:
    return drawn_faults.draw_shot(seed, COUNT, SIZE)


@cache
def measure_truth(seed: int) -> temporal.ClipMetrics:
    return temporal.measure_clip(make_shot(seed).draw())


@cache
def measure(fault: str) -> temporal.ClipMetrics:
    return temporal.measure_clip(FAULTS[fault](shot(fault)))


def ratio(name: str, fault: str) -> float:
    """How many times as bad as the truth's the figure is; NaN where there is none."""
    found, true = measure(fault).figures[name], truth(fault).figures[name]
    if name in MORE:
        return true / found if found else math.inf
    # The truth's brightness does not flicker at all.
    return found / max(true, 0.00005) if name == "brightness flicker" else found / true


def truth(fault: str) -> temporal.ClipMetrics:
    return measure_truth(seed_of(fault))


@pytest.mark.parametrize("name", FOR)
def test_what_a_figure_is_for_is_worse_than_the_truth(name):
    least, faults = FOR[name]
    ratios = {fault: ratio(name, fault) for fault in faults}
    assert all(value >= least for value in ratios.values()), ratios


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_plain_is_found_where_it_is(name):
    least, faults = PLAIN[name]
    for fault in FAULTS:
        value = measure(fault).figures[name]
        assert (value >= least) == (fault in faults), (fault, value)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_looks_steadier_than_the_truth_is_told(fault):
    found = measure(fault)
    if fault in TOLD:
        tell = TOLD[fault]
        assert ratio(tell, fault) > 1.2 if tell in FOR else any(tell in note for note in found.notes), found.notes
    else:
        better = {name: ratio(name, fault) for name in STEADY if ratio(name, fault) < 0.8}
        assert not better


def test_each_fault_is_told():
    known = {fault for _, faults in (*FOR.values(), *PLAIN.values()) for fault in faults}
    assert known | set(TOLD) | set(MASKED) == set(FAULTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_told_of_the_truth(seed):
    found = measure_truth(seed)
    assert found.notes == ()
    assert all(found.figures[name] < least for name, (least, _) in PLAIN.items())


def test_more_of_a_fault_is_worse():
    for weak, strong in [(f"{name}, half", name) for name in drawn_faults.GRADED[:3]]:
        for name, (_, faults) in FOR.items():
            if {weak, strong} <= set(faults):
                values = [found.figures[name] for found in (truth(strong), measure(weak), measure(strong))]
                assert values == sorted(values, reverse=name in MORE), (name, values)


@pytest.mark.parametrize("fault", MASKED)
def test_a_region_that_changes_drifts_more_than_the_truth(fault):
    one = shot(fault)
    drifts = [temporal.measure_clip(clip, one.mask()).drift.mean for clip in (one.draw(), FAULTS[fault](one))]
    assert drifts[1] > 1.2 * drifts[0], drifts


def test_a_thing_that_changes_does_not_carry_the_ground_away():
    """Nor is it a cut: most of the frame is as it was."""
    found = measure("another colour at half time")
    assert found.shots.cuts == found.shots.lost == ()
    assert found.motion.mean < 1.5 * truth("another colour at half time").motion.mean


# --- Compare and Verify -----------------------------------------------------------------------------------------------

STILL = Series("motion", "", (math.nan, *[1.0] * (COUNT - 1)))


class Unmoved:
    """In the place of a `MotionMeter`, where motion is not asked for: it takes most of the time."""

    def add(self, picture):
        pass

    def finish(self):
        return Moves(STILL, 0.0)


@pytest.fixture
def without_motion(monkeypatch):
    monkeypatch.setattr(compare, "MotionMeter", Unmoved)


def noisy(clip: torch.Tensor) -> torch.Tensor:
    """A render that is about the truth, as the reference of a user is."""
    return (clip + 0.02 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(7))).clamp(0, 1)


@pytest.mark.parametrize("fault", drawn_faults.FAULTS)
def test_compare_ranks_the_truth_first(fault, without_motion):
    """Beside a render of the truth, and each bad frame is the worst one."""
    true, bad = shot(fault).draw(), FAULTS[fault](shot(fault))
    reference = noisy(true)
    first, second = (compare.compare_clips(reference, clip) for clip in (true, bad))
    assert second.psnr.mean < first.psnr.mean and second.ssim.mean < first.ssim.mean
    frame = {"bad last frame": COUNT - 1, "black frame": COUNT // 2}.get(fault)
    assert frame is None or second.worst == frame
    # Verify compares latents by this: relative L2.
    assert relative_l2(bad, reference) > relative_l2(true, reference)


@pytest.mark.parametrize("name", drawn_faults.GRADED)
def test_compare_ranks_more_of_a_fault_lower(name, without_motion):
    true, strong = shot(name).draw(), FAULTS[name](shot(name))
    found = [compare.compare_clips(true, torch.lerp(true, strong, share)) for share in (0.25, 0.5, 1.0)]
    for values in ([one.psnr.mean for one in found], [one.ssim.mean for one in found]):
        assert values == sorted(values, reverse=True)


def test_the_unsteady_share_parts_what_flickers_from_what_stays(without_motion):
    def share(fault):
        return compare.compare_clips(shot(fault).draw(), FAULTS[fault](shot(fault))).unsteady.mean

    stays = [share(fault) for fault in ("colours turn warm", "colours burn", "mosaic")]
    flickers = [share(fault) for fault in ("brightness flicker, 4 %", "noise, 3 %", "colour to and fro")]
    assert max(stays) < 0.5 < 0.8 < min(flickers)


@pytest.mark.parametrize(
    "fault, said",
    [
        ("frozen from half time", "of its frames are frozen"),
        ("blur over 5 frames", "times as much as the reference"),
    ],
)
def test_compare_and_verify_say_what_moves_otherwise(fault, said):
    true, bad = shot(fault).draw(), FAULTS[fault](shot(fault))
    found = compare.compare_clips(true, bad)
    assert said in judge(found) and said in compare.to_text(found)
    row = VerifiedSampling("planned", relative_l2(bad, true), "", 1.0, found.psnr.mean, verdict=judge(found))
    assert said in to_text([row], VerifiedSampling("exact", 0.0, "", 1.0), "")
