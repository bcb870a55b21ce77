"""LTX's tokens around those of the video: guides behind it, generated stills before it or behind it."""

from __future__ import annotations

import pytest
import torch

from attention.core.tokens import Span, Tokens
from attention.families.ltxv import tokens

GUIDES = {"keyframe_idxs": torch.zeros(1, 3, 12)}


@pytest.mark.parametrize(
    ("frames", "inputs", "wanted"),
    [
        (7, {}, Tokens((7, 3, 4))),
        (7, GUIDES, Tokens((6, 3, 4), suffix=(Span("guide", 12),))),
        (7, {"generated_keyframes": (5, 2)}, Tokens((5, 3, 4), suffix=(Span("keyframe", 24),))),
        (7, {"generated_keyframes": (0, 2)}, Tokens((5, 3, 4), prefix=(Span("keyframe", 24),))),
        (
            7,
            {"generated_keyframes": (4, 2), **GUIDES},
            Tokens((4, 3, 4), suffix=(Span("keyframe", 24), Span("guide", 12))),
        ),
        (
            7,
            {"generated_keyframes": (0, 3), **GUIDES},
            Tokens((3, 3, 4), prefix=(Span("keyframe", 36),), suffix=(Span("guide", 12),)),
        ),
    ],
    ids=str,
)
def test_what_stands_around_the_video(frames, inputs, wanted):
    inputs = dict(inputs)
    if slots := inputs.get("generated_keyframes"):
        inputs["generated_keyframes"] = {"first_latent_frame": slots[0], "num_keyframes": slots[1]}
    assert tokens(None, torch.zeros(1, 8, frames, 3, 4), inputs) == wanted


@pytest.mark.parametrize("slots", [(2, 2), (0, 7)])
def test_stills_within_the_video_or_all_of_it_have_no_grid(slots):
    inputs = {"generated_keyframes": {"first_latent_frame": slots[0], "num_keyframes": slots[1]}}
    found = tokens(None, torch.zeros(1, 8, 7, 3, 4), inputs)
    assert found.grid is None and "lie between the frames" in found.unknown
