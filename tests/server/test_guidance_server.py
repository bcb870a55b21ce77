"""Guidance on a running ComfyUI: the demo model, and tiny LTX-2.3, Wan 2.2 and HunyuanVideo 1.5 through their own
loaders. The nodes are those that the server lists, with their widgets as they come."""

from __future__ import annotations

import client
import guidance_rows
import pytest
from server_graphs import MODELS, loaded

from attention.guidance import TABLE

CATEGORY = "video attention/guidance"
STEPS = 2


@pytest.fixture(scope="module")
def offered(server) -> dict:
    """Every guidance node that the server lists -> its widgets, with values at which it acts."""
    found = client.Client(server[0]).object_info()
    return {name: widgets(info["input"]) for name, info in found.items() if info["category"] == CATEGORY}


def widgets(inputs: dict) -> dict:
    found = list(client.walk_widgets(inputs, lambda name, kind, options: client.first_value(kind, options)))
    least = {name: options["min"] for name, kind, options, _ in found if kind == "INT"}
    return guidance_rows.acting({name: value for name, _, _, value in found}, least)


def texts_of(server, name: str, chain: dict, sampled: bool = False) -> dict[str, str]:
    """What each node of a chain says on one model, and "report" where it is sampled. RunFailed where one refuses."""
    loader, file, text, (kind, (width, height, length)), _ = MODELS[name]
    nodes, last = loaded(loader, file, text), ["1", 0]
    for number, (node, values) in enumerate(chain.items()):
        nodes[f"3{number}"] = {"class_type": node, "inputs": {"model": last, **values}}
        last = [f"3{number}", 0]
    if sampled:
        size = {"width": width, "height": height, "length": length, "batch_size": 1}
        nodes["4"] = {"class_type": kind, "inputs": size}
        how = {"seed": 1, "steps": STEPS, "cfg": 3.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
        inputs = {**how, "model": last, "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["4", 0]}
        nodes["5"] = {"class_type": "KSampler", "inputs": inputs}
        nodes["6"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["5", 0]}}
    else:
        nodes["6"] = {"class_type": "PreviewAny", "inputs": {"source": last}}
    outputs = client.Client(server[0]).run(nodes)
    said = {node: "\n".join(outputs[f"3{number}"]["text"]) for number, node in enumerate(chain)}
    return {**said, "report": "\n".join(outputs["6"]["text"])}


@pytest.fixture(scope="module")
def accepted(server, offered) -> dict:
    """Model -> the nodes that take it; each of the others says what is wrong with the model."""
    found = {}
    for name in MODELS:
        found[name] = {}
        for node, values in offered.items():
            try:
                texts_of(server, name, {node: values})
            except client.RunFailed as refused:
                assert str(refused).startswith(f"{node}: model: "), refused
            else:
                found[name][node] = values
    return found


@pytest.mark.parametrize("name", MODELS)
def test_all_that_take_the_model_in_a_row(server, name, accepted):
    chain = accepted[name]
    off = {node: texts_of(server, name, {node: {**values, "enabled": False}})[node] for node, values in chain.items()}
    row_of = {node: next(row for row in TABLE if text.startswith(f"{row.name} is off")) for node, text in off.items()}
    said = texts_of(server, name, chain, sampled=True)
    report = said.pop("report")
    assert "Fell back" not in report, report
    for node, row in row_of.items():
        assert row.name in said[node] or row.cost == "nothing", said[node]
        assert row.cost in said[node] or row.cost == "nothing" or "one more model call" in said[node], said[node]
        if row.cost == "one model call":
            assert f"{row.name}: {STEPS} model calls more." in report
        elif row.cost.startswith("one attention call"):
            assert row.name in report


def test_every_guidance_takes_some_model(offered, accepted):
    assert len(offered) == len(TABLE)
    assert set(offered) == set().union(*accepted.values())
