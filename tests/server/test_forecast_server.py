"""Forecast steps on a running ComfyUI: the demo model and tiny ones through their own loaders, by several samplers."""

from __future__ import annotations

import client
import pytest
import workflow_runs
from server_graphs import MODELS, loaded
from tiny import files

OWN = {
    "enabled": True, "method": "taylor", "max_error": 0.0, "in_a_row": 2, "first_steps": 2, "last_steps": 1,
    "degree": 1, "history": 5, "ridge": 0.1, "offload": False,
}  # fmt: skip
COMMON = {"steps": 8, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple"}


def graph(name: str, **widgets) -> dict:
    """Forecast "3", latent "4", sampler "5", report "6"."""
    loader, file, text, (kind, (width, height, length)), _ = MODELS[name]
    nodes = loaded(loader, file, text)
    nodes["3"] = {"class_type": "VideoAttentionForecast", "inputs": {"model": ["1", 0], **OWN}}
    nodes["4"] = {"class_type": kind, "inputs": {"width": width, "height": height, "length": length, "batch_size": 1}}
    linked = {"positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0], "model": ["3", 0]}
    nodes["5"] = {"class_type": "KSampler", "inputs": {"seed": 1, "denoise": 1.0, **COMMON, **linked, **widgets}}
    nodes["6"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["5", 0]}}
    return nodes


def report(server, nodes: dict) -> str:
    return "\n".join(client.Client(server[0]).run(nodes)["6"]["text"])


@pytest.mark.parametrize("name", MODELS)
def test_steps_are_forecast(server, name):
    said = report(server, graph(name))
    assert "in steps 3-4, 6-7; 4 of 8 evaluations forecast." in said and "It remembered up to " in said, said
    assert "Fell back" not in said


def test_picture_and_sound_of_minimax_h3_are_forecast(server):
    """In the pack's own workflow, with what makes its latent, and its decoders."""
    comfy = client.Client(server[0])
    nodes = workflow_runs.small_prompt("MiniMax-H3 text to video", comfy.object_info())
    key = {node["class_type"]: key for key, node in nodes.items()}
    dial = nodes.pop(key["VideoAttentionBoost"])
    nodes["forecast"] = {"class_type": "VideoAttentionForecast", "inputs": {"model": dial["inputs"]["model"], **OWN}}
    sampled = {"model": ["forecast", 0], "sampler_name": "euler", "steps": 8}
    nodes[key["VideoAttentionSampler"]]["inputs"] |= sampled
    said = "\n".join(comfy.run(nodes)[key["VideoAttentionReport"]]["text"])
    assert "in steps 3-4, 6-7; 4 of 8 evaluations forecast." in said and "MiniMaxH3Model" in said, said


@pytest.mark.parametrize(
    "sampler, words",
    [
        ("euler_ancestral", "in steps 3, 5, 7; 3 of 8 evaluations forecast."),
        ("res_multistep", "in steps 3-4, 6-7; 4 of 8 evaluations forecast."),
        ("dpm_fast", "Nothing was forecast: dpm_fast: its steps are of several orders"),
    ],
)
def test_as_many_in_a_row_as_the_sampler_stands(server, sampler, words):
    said = report(server, graph("LTX-2.3", sampler_name=sampler))
    assert words in said, said


def test_two_experts_do_not_share_what_they_computed(server):
    """Each is a model of its own: its first steps are computed, whatever the other has done before."""
    nodes = graph("Wan 2.2")
    low, high = nodes.pop("5"), {"class_type": "KSamplerAdvanced"}
    nodes["8"] = {"class_type": "UNETLoader", "inputs": {**nodes["1"]["inputs"], "unet_name": files.WAN_EXPERTS[1]}}
    nodes["9"] = {"class_type": "VideoAttentionForecast", "inputs": {"model": ["8", 0], **OWN}}
    given = {key: value for key, value in low["inputs"].items() if key not in ("seed", "denoise")}
    given |= {"noise_seed": 1, "return_with_leftover_noise": "enable", "add_noise": "enable"}
    high["inputs"] = {**given, "start_at_step": 0, "end_at_step": 4}
    then = {"start_at_step": 4, "end_at_step": 8, "add_noise": "disable", "return_with_leftover_noise": "disable"}
    nodes["5"] = {"class_type": "KSamplerAdvanced", "inputs": {**given, **then, "model": ["9", 0]}}
    nodes["7"], nodes["5"]["inputs"]["latent_image"] = high, ["7", 0]
    nodes["10"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["7", 0]}}
    outputs = client.Client(server[0]).run(nodes)
    both, first = ("\n".join(outputs[key]["text"]) for key in ("6", "10"))
    for said in (both, first):
        assert "in steps 3; 1 of 4 evaluations forecast." in said, said
    # Behind both one report, in total and each by itself.
    assert "2 of 8 evaluations forecast" in both and "one after the other" not in first, both
    stages = [line for line in both.splitlines() if "KSamplerAdvanced (node " in line]
    assert [line.strip()[:28] for line in stages] == [
        f"{n}. KSamplerAdvanced (node {key})" for n, key in ((1, 7), (2, 5))
    ]
