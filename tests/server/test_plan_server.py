"""Calibrate -> Save Plan, then Load Plan -> Sampler, in a running ComfyUI."""

from __future__ import annotations

import json
import threading
import urllib.request

import client
import pytest
import safetensors.torch

LOADER = {"class_type": "UNETLoader", "inputs": {"unet_name": "tiny-ltxv.safetensors", "weight_dtype": "default"}}
PROMPT = {
    "class_type": "VideoAttentionDemoPrompt",
    "inputs": {"colour": "red", "shape": "disc", "direction": "right"},
}
SIZE = {"width": 128, "height": 96, "length": 9, "batch_size": 1}
SAMPLING = {"seed": 3, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler_name": "simple"}
LINKS = {"positive": ["2", 0], "negative": ["2", 1], "latent": ["3", 0]}
CHOICE = {
    "candidates": "patterns", "budget": "custom", "custom_budget": 1.0, "block_groups": 1, "step_ranges": 1,
    "end_error": "one choice for each part", "seeds": 1,
}  # fmt: skip
SPATIAL = {
    "backend": "", "pattern": {"name": "spatial"}, "role": "self", "blocks": [0, 1], "start": 0.0, "end": 1.0,
    "error": 0.1, "local": 0.2, "effect": None, "seconds": 1.0, "exact_seconds": 2.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def comfy(server):
    return client.Client(server[0])


def graph(node: str, **inputs) -> dict:
    """The tiny model, a prompt, an empty latent, and a node behind the model."""
    latent = {"class_type": "EmptyLTXVLatentVideo", "inputs": SIZE}
    return {"1": LOADER, "2": PROMPT, "3": latent, "4": {"class_type": node, "inputs": {"model": ["1", 0], **inputs}}}


@pytest.fixture(scope="module")
def saved(comfy, server):
    """(what Calibrate said, the file that Save Plan wrote, steps of the bar)."""
    prompt = graph("VideoAttentionCalibrate", **CHOICE, **SAMPLING, **LINKS)
    prompt["5"] = {"class_type": "VideoAttentionSavePlan", "inputs": {"plan": ["4", 1], "filename": "tiny"}}
    prompt["6"] = {"class_type": "PreviewImage", "inputs": {"images": ["4", 2]}}
    bar = []
    outputs = comfy.run(prompt, lambda value, total: bar.append((value, total)))
    assert outputs["6"]["images"] and outputs["5"]["text"] == ["tiny.json in user/video_attention_plans"]
    (file,) = (server[1] / "user").rglob("video_attention_plans/tiny.json")
    return outputs["4"]["text"][0], file, bar


def sampled(comfy, server, name: str) -> tuple:
    """(what Load Plan said, the report, the latent) of a sampling by the plan of that name."""
    prompt = graph("VideoAttentionLoadPlan", plan_name=name, latent=["3", 0])
    inputs = {"model": ["4", 0], **SAMPLING, **LINKS, "denoise": 1.0}
    prompt["5"] = {"class_type": "VideoAttentionSampler", "inputs": inputs}
    prompt["6"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["5", 0]}}
    prompt["7"] = {"class_type": "SaveLatent", "inputs": {"samples": ["6", 0], "filename_prefix": name}}
    outputs = comfy.run(prompt)
    one = outputs["7"]["latents"][0]
    file = server[1] / one["type"] / one["subfolder"] / one["filename"]
    return outputs["4"]["text"][0], outputs["6"]["text"][0], safetensors.torch.load_file(file)["latent_tensor"]


def test_a_plan_is_calibrated_and_saved(saved):
    text, file, bar = saved
    assert text.startswith("Whole sampling ") and "budget 1, predicted " in text
    plan = json.loads(file.read_text())
    assert (plan["model"], plan["blocks"], plan["tokens"], plan["budget"]) == ("LTXVModel", 2, 24, 1.0)
    assert plan["versions"]["comfyui"] and plan["versions"]["torch"]
    values = [value for value, _ in bar]
    assert values == sorted(values) and len(values) > 2


def test_a_plan_of_somebody_else_is_applied(saved, comfy, server):
    _, file, _ = saved
    data = json.loads(file.read_text())
    file.with_name("exact.json").write_text(json.dumps({**data, "steps": []}))
    file.with_name("shared.json").write_text(json.dumps({**data, "device": "NVIDIA H100", "steps": [SPATIAL]}))
    said, _, exact = sampled(comfy, server, "exact.json")
    assert said == "0 of 0 rules applied."
    said, report, planned = sampled(comfy, server, "shared.json")
    assert said.startswith("1 of 1 rules applied.\nIt was measured on NVIDIA H100, this is cpu")
    assert "spatial (" in report and 0.01 < (planned - exact).norm() / exact.norm() < 1
    listed = comfy.object_info()["VideoAttentionLoadPlan"]["input"]["required"]["plan_name"]
    assert {"tiny.json", "exact.json", "shared.json"} <= set(
        listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    )


@pytest.mark.parametrize("name", ["../../user", "broken.json"])
def test_a_bad_file_or_name_is_a_sentence(saved, comfy, server, name):
    _, file, _ = saved
    file.with_name("broken.json").write_text(file.read_text()[:-30])
    with pytest.raises(client.RunFailed, match=r"filename: .* may hold letters|plan: not JSON"):
        sampled(comfy, server, name)


def test_interrupted_by_the_button_it_goes_on_where_it_was(server, comfy):
    steps, pressed = 100, []

    def press(value, total):
        if value > steps and not pressed:
            pressed.append(value)
            request = urllib.request.Request(f"{server[0]}/interrupt", data=b"", method="POST")
            threading.Thread(target=urllib.request.urlopen, args=(request,)).start()

    prompt = graph("VideoAttentionCalibrate", **CHOICE, **{**SAMPLING, "steps": steps}, **LINKS)
    with pytest.raises(client.RunFailed, match="interrupted"):
        comfy.run(prompt, press)
    seen = []
    outputs = comfy.run(prompt, lambda value, total: seen.append(value))
    assert outputs["4"]["text"][0].startswith("Whole sampling ")
    # The first sampling was over when the button was pressed: the bar begins behind it.
    assert pressed and seen[0] >= steps
