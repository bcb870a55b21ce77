"""Guidance on a running ComfyUI: the demo model, and tiny LTX-2.3 and Wan 2.2 through their own loaders."""

from __future__ import annotations

import client
import pytest
from server_graphs import MODELS, loaded

WHERE = {"blocks": "", "start_percent": 0.0, "end_percent": 1.0}
# In the order in which they follow one another in the graph.
NODES = {
    "VideoAttentionSpatiotemporalGuidance": {
        "enabled": True, "scale": 1.0, "mode": "values", "rescale": 0.7, "audio": True, **WHERE,
    },
    "VideoAttentionNormalizedAttentionGuidance": {
        "enabled": True, "nag_scale": 5.0, "nag_tau": 2.5, "nag_alpha": 0.25, "audio": True, **WHERE,
    },
    "VideoAttentionEnhance": {"enabled": True, "weight": 4.0, **WHERE},
    "VideoAttentionPerturbedAttentionGuidance": {"enabled": True, "scale": 1.0, "audio": True, **WHERE},
}  # fmt: skip
RIFLEX = {"VideoAttentionRiflex": {"enabled": True, "frequency": 1, "trained_frames": 1}}
COSTS = (
    "Spatiotemporal guidance: 2 model calls more.",
    "Perturbed attention guidance: 2 model calls more.",
    "Normalised attention guidance: ",
)


@pytest.mark.parametrize("name", ["demo", "LTX-2.3", "Wan 2.2"])
def test_all_of_them_in_a_row(server, name):
    loader, file, text, (kind, (width, height, length)), _ = MODELS[name]
    nodes, last = loaded(loader, file, text), ["1", 0]
    chain = NODES | (RIFLEX if name == "Wan 2.2" else {})
    for number, (node, widgets) in enumerate(chain.items()):
        nodes[f"3{number}"] = {"class_type": node, "inputs": {"model": last, **widgets}}
        last = [f"3{number}", 0]
    nodes["4"] = {"class_type": kind, "inputs": {"width": width, "height": height, "length": length, "batch_size": 1}}
    how = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    inputs = {**how, "model": last, "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0]}
    nodes["5"] = {"class_type": "KSampler", "inputs": inputs}
    nodes["6"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["5", 0]}}
    outputs = client.Client(server[0]).run(nodes)
    report = "\n".join(outputs["6"]["text"])
    assert all(cost in report for cost in COSTS) and "Fell back" not in report, report
    assert "Spatiotemporal guidance: values as they are" in report
    said = ["\n".join(outputs[f"3{number}"]["text"]) for number in range(len(chain))]
    assert "one more model call" in said[0] and "no model call" in said[1], said
