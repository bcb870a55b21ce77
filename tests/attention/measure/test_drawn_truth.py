"""Clips against the drawn truth: no figure of Compare puts a more damaged one first, and a figure tells of each fault.

The faults are those of attention that sees too little: shapes that jump, change or flicker from frame to frame.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import scenes
import torch

from attention.demo import scene_prompt
from attention.measure import compare, temporal

# The middle of a clip: the shapes meet, and move by about a pixel per frame.
FRAMES, FIRST, COUNT, SIZE = 64, 24, 16, 72
PROMPTS = (
    ("red", "square", "right", "cyan", "disc", "up-left", "first in front"),
    ("blue", "ring", "down", "yellow", "triangle", "right", "second in front"),
)
# How many times the truth's figure counts as worse; one of these, or a cut, must tell of each fault.
WORSE = {"flicker": 1.2, "warping error": 1.3, "acceleration": 1.5, "colour drift": 1.3}


@cache
def draw_one(number: int):
    words = scene_prompt.number_words(PROMPTS[number])[None]
    return scenes.draw_scene(words, torch.Generator().manual_seed(number))


@cache
def shakes() -> torch.Tensor:
    return torch.randn(COUNT, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def draw_part(scene, first: int, count: int) -> torch.Tensor:
    return scenes.draw_clip(scene, FRAMES, SIZE, slice(FIRST + first, FIRST + first + count))[0]


def draw(change, scene) -> torch.Tensor:
    """Each frame of the scene as `change` makes it there."""
    return torch.cat([draw_part(change(scene, n), n, 1) for n in range(COUNT)])


def jump(far: float):
    """Put both shapes elsewhere in each frame, `far` frame widths away or so."""
    return lambda scene, n: replace(scene, centre=scene.centre + far * shakes()[n])


def to_and_fro(change):
    """Change every other frame."""
    return lambda scene, n: change(scene) if n % 2 else scene


def after_half(change):
    """Change the second half of the frames."""
    return lambda scene, n: change(scene) if n >= COUNT // 2 else scene


FAULTS = {
    "jumps": jump(0.03),
    "size": lambda scene, n: replace(scene, radius=scene.radius * (1 + 0.15 * shakes()[n, :, 0])),
    "turn": lambda scene, n: replace(scene, phase=scene.phase + 0.4 * shakes()[n, :, 0]),
    "another colour": after_half(lambda scene: replace(scene, colour=(scene.colour + 1) % 8)),
    "another form": after_half(lambda scene: replace(scene, form=(scene.form + 1) % 4)),
    "order to and fro": to_and_fro(lambda scene: replace(scene, front=1 - scene.front)),
    "colour to and fro": to_and_fro(lambda scene: replace(scene, colour=(scene.colour + 1) % 8)),
}


@cache
def measure_truth(number: int) -> temporal.ClipMetrics:
    return temporal.measure_clip(draw_part(draw_one(number), 0, COUNT))


@pytest.mark.parametrize("number", range(len(PROMPTS)))
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_from_the_truth(fault, number):
    found = temporal.measure_clip(draw(FAULTS[fault], draw_one(number))).figures
    clean = measure_truth(number).figures
    ratios = {name: found[name] / clean[name] for name in WORSE}
    assert found["cuts"] or any(ratios[name] >= factor for name, factor in WORSE.items()), ratios


@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_nothing_is_told_of_the_truth(number):
    found = measure_truth(number)
    assert found.notes == () and not found.figures["cuts"] and not found.figures["frozen share"]


def test_what_jumps_farther_is_worse_in_every_figure():
    """The truth, and jumps of 1, 3 and 6 percent of the frame: in this order by every figure."""
    scene = draw_one(0)
    truth, *clips = (draw(jump(far), scene) for far in (0.0, 0.01, 0.03, 0.06))
    steady = [temporal.measure_clip(clip).figures for clip in (truth, *clips)]
    for name in ("flicker", "acceleration", "flicker over detail"):
        values = [figures[name] for figures in steady]
        assert values == sorted(values), (name, values)
    apart = [compare.compare_clips(truth, clip).figures for clip in clips]
    for name in ("PSNR", "SSIM"):
        values = [figures[name] for figures in apart]
        assert values == sorted(values, reverse=True), name
    assert compare.compare_clips(truth, truth).equal
