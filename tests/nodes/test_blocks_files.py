"""Files of blocks that are damaged or describe something else: one sentence about what is wrong."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from attention.blocks import TemporalBlocks, TemporalConfig, weights

CONFIG = TemporalConfig("LTXV", 12, 2, 8, 16, (1,))


@pytest.fixture
def saved(tmp_path):
    """Weights and description of a good file, and (weights, description) -> the path of one with those."""
    weights.save(TemporalBlocks(CONFIG), tmp_path / "good.safetensors", torch.float32)

    def write(tensors, described):
        entry = described if isinstance(described, str) else json.dumps(described)
        save_file(tensors, tmp_path / "b.safetensors", metadata={weights.ENTRY: entry})
        return tmp_path / "b.safetensors"

    config = {
        "family": "LTXV",
        "channels": 12,
        "heads": 2,
        "head_dim": 8,
        "hidden": 16,
        "blocks": [1],
        "frames": "grid",
    }
    return load_file(tmp_path / "good.safetensors"), {"kind": "TemporalBlocks", "config": config}, write


def test_the_description_is_the_documented_one(saved):
    tensors, described, write = saved
    assert weights.load(write(tensors, described)).config == CONFIG


def test_a_missing_weight_is_named(saved):
    tensors, described, write = saved
    del tensors["blocks.1.attention.heads.to_q.weight"]
    with pytest.raises(
        ValueError, match=r"^b.safetensors: the weight blocks.1.attention.heads.to_q.weight is missing, "
    ):
        weights.load(write(tensors, described))


def test_a_needless_weight_is_named(saved):
    tensors, described, write = saved
    with pytest.raises(ValueError, match=r"the weight extra is \(3,\), its metadata ask for no such weight.$"):
        weights.load(write({**tensors, "extra": torch.zeros(3)}, described))


def test_a_weight_of_another_shape_is_named(saved):
    tensors, described, write = saved
    described["config"]["hidden"] = 20
    with pytest.raises(ValueError, match=r"inward.bias is \(16,\), its metadata ask for \(20,\).$"):
        weights.load(write(tensors, described))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {**d, "kind": "Unheard"},
        lambda d: {**d, "more": 1},
        lambda d: {**d, "config": {**d["config"], "wings": 2}},
        lambda d: {**d, "config": {**d["config"], "head_dim": 7}},
        lambda d: {**d, "config": [1]},
        lambda d: {"kind": "TemporalBlocks"},
        lambda d: "{",
        lambda d: "[]",
        lambda d: "[" * 60000,
        lambda d: '"' + "x" * 70000 + '"',
        lambda d: {**d, "config": {**d["config"], "blocks": list(range(20000))}},
        lambda d: {**d, "config": {**d["config"], "blocks": [0, [1]]}},
        lambda d: {**d, "config": {**d["config"], "blocks": ["1"]}},
        lambda d: {**d, "config": {**d["config"], "hidden": 1e400}},
        lambda d: {**d, "config": {**d["config"], "hidden": 16.0}},
        lambda d: {**d, "config": {**d["config"], "channels": 10**12, "heads": 10**9}},
        lambda d: {**d, "config": {**d["config"], "channels": 2**31 - 1, "hidden": 2**31 - 1}},
        lambda d: {**d, "config": {**d["config"], "heads": True}},
        lambda d: {**d, "config": {**d["config"], "family": "x" * 10**4}},
        lambda d: {**d, "config": {**d["config"], "frames": ["grid"]}},
        lambda d: {**d, "kind": ["TemporalBlocks"]},
    ],
)
def test_other_descriptions_are_refused(saved, change):
    tensors, described, write = saved
    with pytest.raises(
        ValueError, match="^b.safetensors: the metadata entry .* describes no blocks known here: "
    ) as said:
        weights.load(write(tensors, change(described)))
    assert len(str(said.value)) < 400 and "\n" not in str(said.value)


def test_whole_numbers_are_no_weights(saved):
    tensors, described, write = saved
    tensors = {key: value.to(torch.int32) if "norm" in key else value for key, value in tensors.items()}
    with pytest.raises(ValueError, match=r"^b.safetensors: the weight blocks.1.*norm.weight is of torch.int32, "):
        weights.load(write(tensors, described))


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff" * 64, (10**9).to_bytes(8, "little") + b"{}"])
def test_other_files_are_refused(tmp_path, raw):
    (tmp_path / "c.safetensors").write_bytes(raw)
    with pytest.raises(ValueError, match="^c.safetensors is no safetensors file: .*[Hh]eader.*[^.][.]$"):
        weights.load(tmp_path / "c.safetensors")


def test_layers_that_come_without_weights(saved, comfy_host, monkeypatch):
    """With its dynamic memory ComfyUI makes layers whose weights are None until they are loaded."""
    import comfy.memory_management
    import comfy.ops

    tensors, described, write = saved
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    lazy = weights.load(write(tensors, described), comfy.ops.manual_cast)
    assert all(torch.equal(value, tensors[key]) for key, value in lazy.state_dict().items())
    x = torch.randn(1, 8, 12)
    assert torch.equal(lazy(1, x, (2, 2, 2)), torch.zeros(1, 8, 12))


def test_weights_keep_the_type_of_the_file(saved, tmp_path):
    weights.save(TemporalBlocks(CONFIG), tmp_path / "half.safetensors", torch.bfloat16, note={"steps": 3})
    back = weights.load(tmp_path / "half.safetensors")
    assert {p.dtype for p in back.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in back.parameters())
