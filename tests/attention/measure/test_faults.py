"""What each figure of a clip says of each fault: the sign of every cell, and quiet where nothing is wrong."""

from __future__ import annotations

import math
from functools import cache

import filmed_clips
import pytest

from attention.measure import temporal

COUNT, SIZE = 12, 72
RATIOS = (
    "motion", "flicker", "flicker over detail", "acceleration", "acceleration over motion", "identity drift",
    "colour drift", "sharpness",
)  # fmt: skip
# What counts as more, of figures that are next to nothing or nothing in a clip without fault.
LEVELS = {"brightness flicker": 0.0005, "frozen share": 0.3, "loop share": 0.3, "cuts": 0.5, "last frame": 8.0}
# + more than without the fault, - less, = about the same, ? not measured. Columns as RATIOS, then as LEVELS.
#                                fl          acc                 bright loop  last
#                           motion  over  acc over drift col sharp  froz cuts
SIGNS = {
    "brightness flicker, 1 %":    "= = = = = = = =   + = = = =",
    "brightness flicker, 4 %":    "= + + = = = = =   + = = = =",
    "noise, 3 %":                 "= + + + + = = +   = = = = =",
    "jitter, 3 pixels":           "+ = = + + = = =   = = = = =",
    "dropped frames":             "+ = = + + + + =   = = = = =",
    "doubled frames":             "- = = + + - - =   = + = = =",
    "uneven speed":               "+ = = + + + + =   = = = = =",
    "another thing at half time": "= + + + + + + =   = = = = =",
    "blur over 5 frames":         "- - = + + + = -   = = = = =",
    "blur, 5 pixels":             "= - = + + + = -   = = = = =",
    "ghosting":                   "= = + + + = = -   = = = = =",
    "frozen from half time":      "- = = + + - - =   = + = = =",
    "frozen":                     "- ? ? ? ? ? - +   = + = = =",
    "loop of 5 frames":           "+ = = + + - - =   = = + = =",
    "loop to and fro":            "= = = + + - - =   = = + = =",
    "colours turn warm":          "= = = = = + + =   = = = = =",
    "colours burn":               "= = = = = + + =   = = = = =",
    "cut":                        "= = = = = + = =   = = = + =",
    "bad last frame":             "= + + = = + = =   = = = = +",
    "black frame":                "= + + = = + = =   = = = = =",
    "seam":                       "+ = = + + + + =   + = = = =",
}  # fmt: skip
# Which way is worse: what is told of a fault at all. Of sharpness both ways are.
WORSE = {"motion": "-", "sharpness": "-"}
# The sentence that a fault must have.
NOTES = {
    "doubled frames": "equal the one before",
    "frozen from half time": "equal the one before",
    "frozen": "the clip is frozen",
    "loop of 5 frames": "recur",
    "loop to and fro": "recur",
    "cut": "Cuts: 1, at frame 6",
    "bad last frame": "The last frame stands out",
    "black frame": "Frame 6: like neither neighbour",
}


@cache
def source():
    return filmed_clips.film(filmed_clips.CAMERAS["pan"], 2 * COUNT, 0, SIZE)


@cache
def measure(fault: str | None):
    clip = source()[:COUNT] if fault is None else filmed_clips.FAULTS[fault](source(), COUNT)
    assert len(clip) == COUNT
    return temporal.measure_clip(clip)


def sign(name: str, fault: str) -> str:
    value, clean = (measure(one).figures[name] for one in (fault, None))
    if name in LEVELS:
        return "+" if value > LEVELS[name] else "="
    if math.isnan(value):
        return "?"
    return "+" if value > 1.1 * clean else "-" if value < 0.9 * clean else "="


def agrees(expected: str, name: str, fault: str) -> bool:
    """Whether a sign is as expected; what is about the same may be a little more or less."""
    if expected == "=" and name in RATIOS:
        return 0.8 < measure(fault).figures[name] / measure(None).figures[name] < 1.25
    return sign(name, fault) == expected


@pytest.mark.parametrize("fault", filmed_clips.FAULTS)
def test_every_figure_says_of_every_fault_what_the_table_says(fault):
    cells = dict(zip((*RATIOS, *LEVELS), SIGNS[fault].split(), strict=True))
    wrong = {
        name: (expected, measure(fault).figures[name], measure(None).figures[name])
        for name, expected in cells.items()
        if not agrees(expected, name, fault)
    }
    assert not wrong
    # Nothing is better in all: some figure says that something is wrong.
    assert any(cell == WORSE.get(name, "+") for name, cell in cells.items())


@pytest.mark.parametrize("fault", filmed_clips.FAULTS)
def test_what_is_plain_is_said_and_nothing_else(fault):
    notes = measure(fault).notes
    if fault not in NOTES:
        assert notes == ()
    else:
        assert any(NOTES[fault] in note for note in notes), notes


@pytest.mark.parametrize("fault, frame", [("bad last frame", 11), ("black frame", 6), ("seam", 6)])
def test_the_worst_frame_is_the_one_with_the_fault(fault, frame):
    worst = measure(fault).brightness.worst[0] if fault == "seam" else measure(fault).flicker.worst[0]
    assert worst in (frame, frame + 1)


@pytest.mark.parametrize("camera", filmed_clips.CAMERAS)
def test_legitimate_motion_is_quiet(camera):
    seed = list(filmed_clips.CAMERAS).index(camera) + 1
    found = temporal.measure_clip(filmed_clips.film(filmed_clips.CAMERAS[camera], COUNT, seed, SIZE))
    assert found.notes == () and found.shots.cuts == found.shots.strays == found.shots.lost == found.shots.repeats == ()
    for name, level in LEVELS.items():
        assert found.figures[name] < level, name
    # A third of the motion, of a shake it is 1.5 and more; and no more flicker than reading between pixels leaves.
    assert found.acceleration_ratio < 0.35 and found.flicker_ratio < 0.6
    assert found.motion.mean > 0.3


def test_each_fault_is_one():
    """Each changes the clip, and none the clip that it was given."""
    before = source().clone()
    for fault, damage in filmed_clips.FAULTS.items():
        assert not damage(source(), COUNT).equal(source()[:COUNT]), fault
    assert source().equal(before) and set(SIGNS) == set(filmed_clips.FAULTS)
