"""Windows in seconds and pictures, and the one that a model was trained for."""

from __future__ import annotations

import pytest
import torch
from long_studio import CASES, LongStudio


def test_lengths_in_seconds(pack, inference):
    """LTX: 8 pictures in a latent frame but the first; 25 a second unless the prompt says otherwise."""
    studio = LongStudio(pack, CASES["LTX"])
    seconds = {"unit": "seconds", "window": 28 / 24, "overlap": 1 / 3, "frame_rate": 24.0}
    assert "windows of 4 latent frames over 10, overlap 1." in studio.long(**seconds)[3]
    studio.positive[0][1]["frame_rate"] = 48.0
    assert "windows of 8 latent frames over 10, overlap 2." in studio.long(**seconds)[3]


DEFAULTS = {"unit": "seconds", "window": 0.0, "overlap": 1.0}


@pytest.mark.parametrize(
    ("case", "rate", "said"),
    [
        ("Wan", None, "windows of 21 latent frames over 30, overlap 4. A window is 81 pictures, 5.06 s at 16 a second"),
        (
            "LTX",
            None,
            "windows of 16 latent frames over 30, overlap 3. A window is 121 pictures, 5.04 s at 24 a second.",
        ),
        ("LTX", 50.0, "windows of 32 latent frames"),
    ],
)
def test_the_window_that_a_model_was_trained_for(pack, inference, case, rate, said):
    """As the widgets come: Wan's 81 pictures at its own rate, LTX's 5 seconds at the prompt's."""
    case = CASES[case]
    shape = list(case.latent().shape)
    studio = LongStudio(pack, case)
    if rate:
        studio.positive[0][1]["frame_rate"] = rate
    latent = {"samples": torch.zeros(*shape[:2], 34 if rate else 30, *shape[3:])}
    report = studio.long(latent, steps=1, cfg=1.0, **DEFAULTS)[3]
    assert said in report


def test_a_window_of_ones_own_is_told_beside_the_trained_one(pack, inference):
    """5 seconds at 24 a second, which were the widgets' values once, still mean 31 latent frames of Wan."""
    studio = LongStudio(pack, CASES["Wan"])
    latent = {"samples": torch.zeros(1, 16, 33, 6, 8)}
    report = studio.long(latent, steps=1, cfg=1.0, unit="seconds", window=5.0, overlap=1.0, frame_rate=24.0)[3]
    assert "windows of 31 latent frames over 33, overlap 6. A window is 121 pictures, 5.04 s at 24 a second" in report
    assert "this model was trained with 81 pictures at 16 a second, which window 0 takes." in report
    report = studio.long(latent, steps=1, cfg=1.0, unit="latent frames", window=0.0, overlap=2.0)[3]
    assert "windows of 21 latent frames over 33, overlap 2." in report


AUTO = {"unit": "seconds", "window": 0.0, "overlap": -1.0, "frame_rate": 0.0}


CHOSEN = (
    (
        "Wan",
        {},
        "windows of 21 latent frames over 34, overlap 5. A window is 81 pictures, 5.06 s at 16 a second; this model "
        "was trained with 81 pictures at 16 a second. The overlap is 20 pictures, 1.25 s, a quarter of the window.",
    ),
    (
        "Wan",
        {"window": 3.0},
        "windows of 13 latent frames over 34, overlap 3. A window is 49 pictures, 3.06 s at 16 a second; this model "
        "was trained with 81 pictures at 16 a second, which window 0 takes.",
    ),
    ("Wan", {"window": 3.0, "frame_rate": 24.0}, "windows of 19 latent frames"),
    ("Wan", {"overlap": 0.0}, "overlap 0. A window is 81 pictures"),
    (
        "Wan",
        {"unit": "latent frames", "window": 8.0},
        "windows of 8 latent frames over 34, overlap 2. A window is 29 pictures, 1.81 s at 16 a second",
    ),
    (
        "LTX",
        {},
        "windows of 16 latent frames over 34, overlap 4. A window is 121 pictures, 5.04 s at 24 a second. The overlap "
        "is 32 pictures, 1.33 s, a quarter of the window. The rate is this model's usual one",
    ),
    (
        "LTX",
        {"frame_rate": 25.0},
        "windows of 17 latent frames over 34, overlap 4. A window is 129 pictures, 5.16 s at 25 a second.",
    ),
)


@pytest.mark.parametrize(("case", "widgets", "said"), CHOSEN)
def test_what_nobody_chose_is_chosen_for_the_model_and_said(pack, inference, case, widgets, said):
    case = CASES[case]
    shape = list(case.latent().shape)
    latent = {"samples": torch.zeros(*shape[:2], 34, *shape[3:])}
    report = LongStudio(pack, case).long(latent, steps=1, cfg=1.0, **{**AUTO, **widgets})[3]
    assert said in report


@pytest.mark.parametrize(
    ("window", "overlap", "right"),
    [
        (0.0, 1.0, True), (5.0, 1.0, True), (0.0, 0.0, True), (0.5, 0.4, True), (0.0, -1.0, True), (3.0, -1.0, True),
        (2.0, 5.0, False), (1.0, 1.0, False), (-1.0, 0.0, False), (3.0, -0.5, False), (3.0, -2.0, False),
        (1e9, 1.0, False),
        (float("nan"), 1.0, False), (3.0, float("nan"), False), (0.0, float("nan"), False),
    ],
)  # fmt: skip
def test_lengths_that_cannot_be_right_are_refused_in_one_sentence(pack, window, overlap, right):
    """By the node itself: checked before anything runs, ComfyUI blames both widgets for it."""
    node = pack.nodes.long_sampler
    assert "validate_inputs" not in vars(node.VideoAttentionLongSampler)
    if right:
        return node._check(window, overlap)
    with pytest.raises(ValueError, match="^overlap: "):
        node._check(window, overlap)
