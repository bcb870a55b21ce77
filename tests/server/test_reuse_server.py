"""Kept attention outputs on a running ComfyUI: the demo model and tiny ones through their own loaders; what is told."""

from __future__ import annotations

import re

import client
import pytest
from server_graphs import MODELS, loaded


def graph(name: str, **widgets) -> dict:
    """Reuse "3", sampler "5", report "6", the model's info "7"."""
    loader, file, text, (kind, (width, height, length)), _ = MODELS[name]
    nodes = loaded(loader, file, text)
    nodes["4"] = {"class_type": kind, "inputs": {"width": width, "height": height, "length": length, "batch_size": 1}}
    own = {"enabled": True, "every": 2, "role": "all", "blocks": "", "start_percent": 0.0, "end_percent": 1.0,
           "budget": 64, "storage": "8 bit", "offload": False, "on_unsupported": "error"}  # fmt: skip
    nodes["3"] = {"class_type": "VideoAttentionReuse", "inputs": {"model": ["1", 0], **own, **widgets}}
    common = {"seed": 1, "steps": 6, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    linked = {"positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0], "model": ["3", 0]}
    nodes["5"] = {"class_type": "KSampler", "inputs": {**common, **linked}}
    nodes["6"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["5", 0]}}
    nodes["7"] = {"class_type": "VideoAttentionInfo", "inputs": {"model": ["3", 0], "latent": ["4", 0]}}
    return nodes


@pytest.mark.parametrize("name", MODELS)
def test_half_of_all_calls_are_given_a_kept_output(server, name):
    outputs = client.Client(server[0]).run(graph(name))
    report, info, node = ("\n".join(outputs[key]["text"]) for key in ("6", "7", "3"))
    given, could = map(int, re.search(r"Reuse every 2 steps: (\d+) of (\d+) attention calls reused", report).groups())
    assert 0 < given == could / 2, report
    assert re.search(r"^self +kept output +\d+ ", report, re.MULTILINE), report
    assert "Eight bits differ by 0.00" in report and "kept up to" in report and "Fell back" not in report, report
    assert "one of 2 steps" in node and "at most 64 MiB" in node and "For this clip and each prompt" in info
