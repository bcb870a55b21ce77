"""More ComfyUIs than heads, and keys that go around machines: two running ComfyUIs, one of which believes it is on
another machine."""

from __future__ import annotations

import shutil
import time

import client
import pytest
import torch
from test_several_comfyuis import TINY, far, graph, port, run_both, saved, stopped

ONE_HEAD = "tiny-ltxv-1-head.safetensors"
# What a computer is called; the pack asks when the ComfyUIs meet.
ELSEWHERE = 'import platform\nplatform.node = lambda: "another-machine"\nNODE_CLASS_MAPPINGS = {}\n'
__all__ = ["port"]
BACKEND = {
    "model": ["1", 0], "role": "all", "blocks": "", "start_percent": 0.0, "end_percent": 1.0,
    "on_unsupported": "error", "guard": "first call", "timing": False, "auto_choice": "measure", "max_error": 0.02,
}  # fmt: skip


def with_model(nodes: dict, file: str, backend: str | None = None) -> dict:
    """A graph with another model, and its kernel where it is sampled together."""
    nodes["1"]["inputs"]["unet_name"] = file
    if backend is not None:
        nodes["9"] = {"class_type": "VideoAttentionBackend", "inputs": {**BACKEND, "backend": backend}}
        nodes["6"]["inputs"]["model"] = ["9", 0]
    return nodes


@pytest.fixture(scope="module")
def both(write_tiny, server, tmp_path_factory):
    """Two ComfyUIs: [(Client, base folder), ...]."""
    import host
    from host_folder import find_host

    base, made = tmp_path_factory.mktemp("elsewhere"), tmp_path_factory.mktemp("tiny") / ONE_HEAD
    write_tiny(made, heads=1)
    models = [folder / "models" / "diffusion_models" for folder in (server[1], base)]
    models[1].mkdir(parents=True)
    shutil.copyfile(models[0] / TINY, models[1] / TINY)
    for folder in models:
        shutil.copyfile(made, folder / ONE_HEAD)
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "elsewhere.py").write_text(ELSEWHERE)
    with host.serve(find_host(), base) as address:
        yield [(client.Client(server[0]), server[1]), (client.Client(address), base)]


@pytest.fixture(scope="module")
def alone(both):
    for file in (TINY, ONE_HEAD):
        both[0][0].run(with_model(graph(f"ring-{file}", None, 0), file))
    return {file: saved(both[0][1], f"ring-{file}") for file in (TINY, ONE_HEAD)}


AROUND, GATHERED = "attention calls keys went around all 2: ", "attention calls keys were gathered from all 2: "
AROUND_MACHINES = "tokens, keys around machines"


@pytest.mark.parametrize(
    ("file", "split", "backend", "said"),
    [
        (ONE_HEAD, "tokens", "sdpa flash", AROUND),
        (ONE_HEAD, "tokens", "reference", GATHERED),
        (TINY, AROUND_MACHINES, "sdpa flash", AROUND),
        (TINY, AROUND_MACHINES, "reference", GATHERED),
        (TINY, "tokens", "sdpa flash", ", 1 + 1 heads; "),
    ],
    ids=["one head, around", "one head, gathered", "two machines, around", "two machines, gathered", "heads traded"],
)
def test_they_make_the_clip_of_one(both, alone, port, file, split, backend, said):
    name = f"ring-{backend[:4]}-{split[-8:]}-{'one' if file == ONE_HEAD else 'two'}"
    answers = run_both(both, [with_model(graph(name, n, port, split=split), file, backend) for n in (0, 1)])
    assert all(isinstance(answer, dict) for answer in answers), answers
    made = [saved(base, name) for _, base in both]
    assert torch.equal(*made) and far(made[0], alone[file]) < 1e-5
    for answer in answers:
        text = " ".join(map(str, answer["7"]["text"]))
        assert said in text and ("keys" in text) == (said in (AROUND, GATHERED))


def test_splits_that_differ_are_told(both, port):
    answers = run_both(both, [graph("apart", n, port, split=("tokens", AROUND_MACHINES)[n]) for n in (0, 1)])
    assert all("the workflows differ" in answer or "left the run" in answer for answer in answers), answers
    named = ("split is 'tokens' here", f"split is '{AROUND_MACHINES}' here")
    assert any(split in answer for split, answer in zip(named, answers)), answers


def test_one_that_is_stopped_leaves_the_other_with_a_sentence(both, alone, port):
    begun = time.monotonic()
    graphs = [graph("ring-stopped", number, port, steps=400) for number in (0, 1)]
    answers = stopped(both, [with_model(each, ONE_HEAD, "sdpa flash") for each in graphs])
    assert answers[1] == "interrupted" and "another ComfyUI left the run" in answers[0]
    # Its patience is a minute.
    assert time.monotonic() - begun < 55
    both[0][0].run(with_model(graph("ring-after", None, 0), ONE_HEAD))
    assert torch.equal(saved(both[0][1], "ring-after"), alone[ONE_HEAD])
