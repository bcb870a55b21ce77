"""What the evaluation of scenes says about clips whose truth is known."""

from __future__ import annotations

import json
import math

import evaluate_scenes
import pytest
import scenes
import torch
import train_demo
import train_scenes

from attention.demo import scene_codec, scene_prompt


def test_prompts_go_around_evenly():
    words = evaluate_scenes.choose_words(48)
    assert torch.equal(torch.bincount(words[:, 2]), torch.full((8,), 6))
    assert torch.equal(torch.bincount(words[:, 1]), torch.full((4,), 12))
    assert torch.equal(torch.bincount(words[:, 4]), torch.full((4,), 12))
    assert torch.equal(torch.bincount(words[:, 6]), torch.full((2,), 24))
    assert (words[:, 0] != words[:, 3]).all() and (words[:, 2] != words[:, 5]).all()


def say(**changes):
    words = dict(zip(scene_prompt.KINDS, ("red", "square", "right", "cyan", "disc", "up", "first in front")))
    return [*(words | {name.replace("_", " "): word for name, word in changes.items()}).values()]


@pytest.fixture(scope="module")
def clip():
    return scenes.draw_prompt(say(), 0, 32, 96)


def test_the_truth_is_all_right(clip):
    found = evaluate_scenes.summarise([evaluate_scenes.compare(clip, say())])
    assert {name: value for name, value in found.items() if name != "jump"} == dict.fromkeys(
        ("colour", "form", "direction", "order"), 1.0
    )
    assert 0 < found["jump"] < 0.004


@pytest.mark.parametrize(
    ("change", "name", "share"),
    [
        ({"form": "triangle"}, "form", 0.5),
        ({"second_direction": "down"}, "direction", 0.5),
        ({"order": "second in front"}, "order", 0.0),
        ({"second_colour": "green"}, "colour", 0.5),
    ],
)
def test_what_is_wrong_is_counted(clip, change, name, share):
    assert evaluate_scenes.summarise([evaluate_scenes.compare(clip, say(**change))])[name] == share


def test_a_clip_without_shapes_has_no_jump():
    readings = [{"form": [False], "jump": [math.nan]}, {"form": [True], "jump": [0.5]}]
    assert evaluate_scenes.summarise(readings) == {"form": 0.5, "jump": 0.5}
    assert evaluate_scenes.summarise(readings[:1])["jump"] is None


@pytest.mark.parametrize(("inside", "joint", "ratio"), [(0.5, 0.25, 2.0), (0.5, 0.0, None), (0.5, None, None),
                                                        (None, 0.5, None), (0.0, 0.5, 0.0)])  # fmt: skip
def test_a_ratio_of_nothing_is_none(inside, joint, ratio):
    assert evaluate_scenes.divide(inside, joint) == ratio


def test_figures_of_clips_without_shapes_are_json(monkeypatch):
    """No clip of the first way to attend has a shape, and none of the second: still one JSON object."""
    monkeypatch.setattr(evaluate_scenes, "list_ways", lambda args: [(name, make_nothing) for name in WAYS])
    found = evaluate(monkeypatch, "--grid", "2", "3", "3")
    assert found["joint"]["jump"] is found["inside_frames"]["jump"] is found["jump_ratio"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


WAYS = ("joint", "inside_frames")


def make_nothing(rows):
    """Latents of clips in which both shapes are far away from everywhere."""
    latents = torch.zeros(len(rows), scene_codec.CHANNELS, 2, 3, 3)
    latents[:, [0, scene_codec.SHAPE]] = -10.0
    return latents


def evaluate(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["evaluate_scenes.py", "--samples", "2", *words])
    return evaluate_scenes.evaluate(evaluate_scenes.parse())


def test_drawn_clips_come_back_from_the_codec():
    found = evaluate_scenes.measure_codec(2)["psnr"]
    assert len(found) == 2 and 38.0 <= found[0] <= found[1]


def test_drawn_clips_behind_the_codec_are_right(monkeypatch, tmp_path):
    found = evaluate(monkeypatch, "--drawn", "--grid", "8", "8", "8", "--sheet", str(tmp_path / "sheet.png"))
    right = found["drawn"]
    assert right["colour"] == right["form"] == right["direction"] == 1.0 and found["tokens"] == 512
    assert right["jump"] < 0.01 and (tmp_path / "sheet.png").stat().st_size > 10_000


@pytest.mark.parametrize("words", [[], ["--bfloat16", "--cfg", "2"]])
def test_both_ways_to_attend_are_measured(monkeypatch, tmp_path, words):
    grid, file = (2, 3, 3), tmp_path / "scenes.safetensors"
    train_demo.export(train_demo.build(0, False, train_scenes.configure(grid, 1), grid, scene_codec.ACTIVE), file, {})
    found = evaluate(monkeypatch, "--weights", str(file), "--grid", "2", "3", "3", "--steps", "2", *words)
    assert {"joint", "inside_frames", "jump_ratio"} < set(found) and found["bfloat16"] == bool(words)
    assert 0 <= found["joint"]["colour"] <= 1


def test_the_shipped_model_draws_what_its_prompt_says(monkeypatch):
    """Eight steps of one prompt on its own grid: both shapes' colours, forms and directions, and their order."""
    shipped = evaluate_scenes.ROOT / "models" / "diffusion_models" / "video-attention-scenes.safetensors"
    words = ("--weights", str(shipped), "--samples", "1", "--steps", "8", "--joint-only")
    monkeypatch.setattr("sys.argv", ["evaluate_scenes.py", *words])
    right = evaluate_scenes.evaluate(evaluate_scenes.parse())["joint"]
    assert right["colour"] == right["form"] == right["direction"] == right["order"] == 1.0 and right["jump"] < 0.002
