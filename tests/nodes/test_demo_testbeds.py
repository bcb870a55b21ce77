"""The demo models as benchmarks sample them: prompts, latents and what is read of drawn clips."""

from __future__ import annotations

import pytest
import scenes
import torch

from attention.demo import scene_prompt
from benchmarks.demo_model import TESTBEDS


@pytest.fixture(params=TESTBEDS, ids=str)
def testbed(request, comfy_host):
    return TESTBEDS[request.param]


def test_unseen_prompts_differ_and_leave_the_calibrated_one_out(testbed):
    known = testbed.unseen(None)
    assert len(known) >= 48 and len(set(known)) == len(known) and testbed.calibrated not in known
    assert testbed.unseen(5) == known[:5]
    for words in known[:3]:
        positive, negative = testbed.prompts_of(words)
        assert positive[0][0].shape[1] == len(words) and not negative[0][0].any()


def test_its_latent_is_that_of_its_workflow(testbed):
    frames, rows, columns = testbed.shape[2:]
    assert (frames - 1) * 8 < testbed.asked.length <= frames * 8
    assert rows == columns == testbed.asked.side // 32


def test_a_drawn_scene_is_right_and_another_prompt_is_not(comfy_host):
    testbed = TESTBEDS["scenes"]
    words = testbed.calibrated
    numbers = scene_prompt.number_words(words)[None]
    clip = scenes.draw_clip(scenes.draw_scene(numbers, torch.Generator().manual_seed(1)), 64, 128)[0]
    assert testbed.is_right(clip, words)
    for place, other in ((1, "ring"), (2, "left"), (6, "second in front"), (0, "green")):
        assert not testbed.is_right(clip, (*words[:place], other, *words[place + 1 :]))


def test_places_are_those_of_the_shape(comfy_host):
    clip = torch.full((4, 64, 64, 3), 0.5)
    for frame in range(1, 4):
        clip[frame, 20:40, 10 * frame : 10 * frame + 20, 0] = 1.0
    rows, columns = TESTBEDS["small"].find_places(clip, ("red", "square", "right"))
    assert torch.allclose(rows, torch.full((3,), 30 / 64)) and torch.allclose(columns, torch.tensor([20, 30, 40]) / 64)
