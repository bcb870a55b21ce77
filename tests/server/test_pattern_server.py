"""Every pattern on a running ComfyUI: the demo model, and tiny LTX-2.3, Wan 2.2 and HunyuanVideo 1.5 through their own
loaders; the report tells that it ran."""

from __future__ import annotations

import math
import re

import client
import pytest
from server_graphs import MODELS, loaded
from shaping import choices

# Widgets of some patterns, for clips as small as these; every other one runs with its widgets as they come.
BY_HAND = {
    "spatial and temporal": {"blocks_do": "both", "spatial_weight": 0.3},
    "temporal window": {"time": 2},
    "long video": {"time": 2},
    "sliding tile": {"time": 1},
    "neighbourhood": {"time": 3, "height": 60.0},
    "radial": {"keep": 50.0},
    "top blocks": {"keep": 40.0, "token_order": "hilbert", "refresh": 2},
    "blocks by mass": {"mass": 50.0, "token_order": "morton"},
    "adaptive blocks": {"tau": 0.5, "token_order": "raster"},
}


@pytest.fixture(scope="module")
def offered(pack) -> dict:
    """Every pattern of the node -> its widgets."""
    return {name: {**widgets, **BY_HAND.get(name, {})} for name, widgets in choices(pack).items()}


def graph(name: str, patterns: dict) -> dict:
    """Every pattern on one model in one prompt: pattern "3N", sampler "5N", report "6N", one step each."""
    loader, file, text, (kind, (width, height, length)), _ = MODELS[name]
    nodes = loaded(loader, file, text)
    size = {"width": width, "height": height, "length": length, "batch_size": 1}
    nodes["4"] = {"class_type": kind, "inputs": size}
    fixed = {"time_unit": "latent frames", "fps": 24.0, "combine": "replace", "blocks": "", "start_percent": 0.0,
             "end_percent": 1.0, "dense_first_steps": 0, "dense_last_steps": 0, "dense_first_blocks": 0,
             "dense_last_blocks": 0, "min_tokens": 0, "engine": "auto", "on_unsupported": "fall back",
             "guard": "every call", "timing": False, "auto_choice": "measure", "max_error": 0.02}  # fmt: skip
    common = {"seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    for number, (pattern, widgets) in enumerate(patterns.items()):
        choice = {"pattern": pattern, **{f"pattern.{key}": value for key, value in widgets.items()}}
        shape = {"model": ["1", 0], "latent": ["4", 0], **choice, **fixed}
        sampled = {**common, "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0]}
        nodes[f"3{number}"] = {"class_type": "VideoAttentionPattern", "inputs": shape}
        nodes[f"5{number}"] = {"class_type": "KSampler", "inputs": {**sampled, "model": [f"3{number}", 0]}}
        nodes[f"6{number}"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": [f"5{number}", 0]}}
        nodes[f"7{number}"] = {"class_type": "PreviewAny", "inputs": {"source": [f"3{number}", 2]}}
    return nodes


@pytest.mark.parametrize("name", MODELS)
def test_every_pattern_runs(server, name, offered):
    prompt = graph(name, offered)
    outputs = client.Client(server[0]).run(prompt)
    grid = MODELS[name][4]
    size = " x ".join(map(str, grid))
    for number, pattern in enumerate(offered):
        report = "\n".join(outputs[f"6{number}"]["text"])
        assert f", {size} tokens (time x height x width), 1 steps" in report, report
        assert "\n".join(outputs[f"7{number}"]["text"]).startswith(f"Grid: {size} = {math.prod(grid)} tokens")
        if f"{pattern} attention of {size} tokens is dense" in report and pattern not in BY_HAND:
            continue  # as its widgets come it is for longer clips
        assert re.search(rf"^self +{pattern} \(\w+", report, re.MULTILINE), report
        assert "Fell back" not in report, report
