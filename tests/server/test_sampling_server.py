"""The sampling nodes in a running ComfyUI: interrupted by its own button, progress as the page gets it."""

from __future__ import annotations

import threading
import urllib.request

import client
import pytest
import safetensors.torch

STEPS = 200


@pytest.fixture(scope="module")
def comfy(server):
    return client.Client(server[0])


@pytest.fixture(scope="module")
def info(comfy):
    return comfy.object_info()


def graph(info, node: str, length: int, name: str, **widgets) -> dict:
    """A clip of `length` pictures by the tiny model and one of our samplers, its latent saved under `name`."""
    known = info[node]["input"]["required"]
    values = {key: spec[1].get("default") for key, spec in known.items() if spec[0] not in ("MODEL", "LATENT")}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 1], "latent": ["3", 0]}
    size = {"width": 128, "height": 96, "length": length, "batch_size": 1}
    prompt = {"colour": "red", "shape": "disc", "direction": "right"}
    return {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "tiny-ltxv.safetensors", "weight_dtype": "default"}},
        "2": {"class_type": "VideoAttentionDemoPrompt", "inputs": prompt},
        "3": {"class_type": "EmptyLTXVLatentVideo", "inputs": size},
        "4": {"class_type": node, "inputs": {**values, "steps": STEPS, "cfg": 1.0, **widgets, **links}},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": name}},
    }


def saved(base, name: str):
    return safetensors.torch.load_file(next((base / "output").glob(f"{name}*.latent")))["latent_tensor"]


def interrupt_at(address: str, step: int):
    """Presses the button once the progress bar has come to `step`, from another thread as the page does."""
    pressed = []

    def on_step(value, total):
        if value >= step and not pressed:
            pressed.append(value)
            request = urllib.request.Request(f"{address}/interrupt", data=b"", method="POST")
            threading.Thread(target=urllib.request.urlopen, args=(request,)).start()

    return on_step


LONG = {"method": "extend", "unit": "latent frames", "window": 4, "overlap": 1}


def test_interrupted_the_graph_goes_on_with_finished_windows(server, comfy, info):
    prompt = graph(info, "VideoAttentionLongSampler", 73, "long", **LONG)
    outputs = comfy.run(prompt, interrupt_at(server[0], STEPS + STEPS // 4))
    assert "Interrupted: these are the first 4 of 10 latent frames" in "\n".join(outputs["4"]["text"])
    assert saved(server[1], "long").shape[2] == 4


def test_interrupted_in_the_first_window_it_stops(server, comfy, info):
    prompt = graph(info, "VideoAttentionLongSampler", 73, "none", **LONG, seed=2)
    with pytest.raises(client.RunFailed, match="interrupted"):
        comfy.run(prompt, interrupt_at(server[0], 5))
    assert not list((server[1] / "output").glob("none*"))


def test_the_plain_sampler_stops_at_once(server, comfy, info):
    seen = []
    press = interrupt_at(server[0], 5)

    def on_step(value, total):
        seen.append((value, total))
        press(value, total)

    prompt = graph(info, "VideoAttentionSampler", 17, "plain", steps=2000, scheduler_name="simple")
    with pytest.raises(client.RunFailed, match="interrupted"):
        comfy.run(prompt, on_step)
    assert max(seen)[0] < 1000 and {total for _, total in seen} == {2000}


def test_two_stages_fill_one_bar(server, comfy, info):
    prompt = graph(info, "VideoAttentionTwoStageSampler", 17, "two", steps=10, switch_at="step", switch_step=4)
    inputs = prompt["4"]["inputs"]
    inputs["model_high"] = inputs.pop("model")
    seen = []
    outputs = comfy.run(prompt, lambda value, total: seen.append((value, total)))
    assert "Switch after step 4 of 10" in "\n".join(outputs["4"]["text"])
    assert seen == sorted(seen) and seen[-1] == (10, 10) and {total for _, total in seen} == {10}
