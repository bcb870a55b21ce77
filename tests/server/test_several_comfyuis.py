"""One clip by two running ComfyUIs: they meet, miss each other, differ, and one is left alone."""

from __future__ import annotations

import shutil
import threading

import client
import pytest
import safetensors.torch
import torch

TINY = "tiny-ltxv.safetensors"


@pytest.fixture(scope="module")
def both(server, tmp_path_factory):
    """Two ComfyUIs: [(Client, base folder), ...]."""
    import host
    from host_folder import find_host

    base = tmp_path_factory.mktemp("second")
    (base / "models" / "diffusion_models").mkdir(parents=True)
    shutil.copyfile(server[1] / "models" / "diffusion_models" / TINY, base / "models" / "diffusion_models" / TINY)
    with host.serve(find_host(), base) as address:
        yield [(client.Client(server[0]), server[1]), (client.Client(address), base)]


@pytest.fixture
def port():
    import host

    return host.free_port(None)


def graph(
    name: str, number: int | None, port: int, seed=1, steps=3, patience=60, split="tokens", cfg=1.0, every=1
) -> dict:
    """Samples the tiny model; with a number together with another ComfyUI.

    every: of Video Attention Reuse.
    """
    prompt = {"colour": "red", "shape": "disc", "direction": "right"}
    size = {"width": 128, "height": 96, "length": 17, "batch_size": 1}
    meeting = {"number": number, "of": 2, "meeting_point": f"127.0.0.1:{port}", "patience": patience, "split": split}
    sampler = {
        "seed": seed, "steps": steps, "cfg": cfg, "sampler_name": "euler_ancestral", "scheduler": "simple",
        "denoise": 1.0, "model": ["1", 0] if number is None else ["6", 0], "positive": ["2", 0], "negative": ["2", 1],
        "latent_image": ["3", 0],
    }  # fmt: skip
    nodes = {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": TINY, "weight_dtype": "default"}},
        "2": {"class_type": "VideoAttentionDemoPrompt", "inputs": prompt},
        "3": {"class_type": "EmptyLTXVLatentVideo", "inputs": size},
        "4": {"class_type": "KSampler", "inputs": sampler},
        "5": {"class_type": "SaveLatent", "inputs": {"samples": ["4", 0], "filename_prefix": f"several-{name}"}},
    }
    if every > 1:
        kept = {
            "enabled": True, "every": every, "role": "self", "blocks": "", "start_percent": 0.0, "end_percent": 1.0,
            "budget": 64, "storage": "model dtype", "offload": False, "on_unsupported": "error",
        }  # fmt: skip
        nodes["8"] = {"class_type": "VideoAttentionReuse", "inputs": {"model": ["1", 0], **kept}}
        sampler["model"] = ["8", 0] if number is None else ["6", 0]
    if number is not None:
        model = ["8", 0] if every > 1 else ["1", 0]
        nodes["6"] = {"class_type": "VideoAttentionSeveralComfyUIs", "inputs": {"model": model, **meeting}}
        nodes["7"] = {"class_type": "VideoAttentionReport", "inputs": {"latent": ["4", 0]}}
    return nodes


def run_both(both, graphs) -> list:
    """The outputs of each, or the sentence with which it failed."""
    answers = [None, None]

    def run(which):
        try:
            answers[which] = both[which][0].run(graphs[which])
        except client.RunFailed as failed:
            answers[which] = str(failed)

    threads = [threading.Thread(target=run, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def saved(base, name: str):
    return safetensors.torch.load_file(next((base / "output").glob(f"several-{name}_0*.latent")))["latent_tensor"]


def far(a, b) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.fixture(scope="module")
def alone(both):
    both[0][0].run(graph("alone", None, 0))
    both[0][0].run(graph("guided", None, 0, cfg=3.0))
    return {name: saved(both[0][1], name) for name in ("alone", "guided")}


def test_they_meet_and_make_the_clip_of_one(both, alone, port):
    answers = run_both(both, [graph("met", number, port) for number in (0, 1)])
    assert all(isinstance(answer, dict) for answer in answers), answers
    made = [saved(base, "met") for _, base in both]
    assert torch.equal(*made) and far(made[0], alone["alone"]) < 1e-5
    text = " ".join(map(str, answers[1]["7"]["text"]))
    assert "On 2 ComfyUIs (number 0, number 1, this one): " in text and " tokens, " in text
    # Another run with the same widgets meets again, instead of giving what is remembered.
    assert all(isinstance(answer, dict) for answer in run_both(both, [graph("met", n, port) for n in (0, 1)]))


def test_kept_outputs_are_those_of_one(both, alone, port):
    both[0][0].run(graph("kept alone", None, 0, steps=4, every=2))
    answers = run_both(both, [graph("kept", number, port, steps=4, every=2) for number in (0, 1)])
    assert all(isinstance(answer, dict) for answer in answers), answers
    made = [saved(base, "kept") for _, base in both]
    assert torch.equal(*made) and far(made[0], saved(both[0][1], "kept alone")) < 1e-5
    assert "each took what it had kept, and nothing was traded" in " ".join(map(str, answers[1]["7"]["text"]))
    answers = run_both(both, [graph("unlike", number, port, steps=4, every=2 + number) for number in (0, 1)])
    assert any("the plan is another one at number " in answer for answer in answers), answers


def test_with_cfg_each_has_a_prompt(both, alone, port):
    graphs = [graph("two", n, port, cfg=3.0, split="prompts, then tokens") for n in (0, 1)]
    answers = run_both(both, graphs)
    assert "one prompt each" in " ".join(map(str, answers[0]["7"]["text"]))
    made = [saved(base, "two") for _, base in both]
    assert torch.equal(*made) and far(made[0], alone["guided"]) < 1e-5


def test_nobody_comes_and_the_server_goes_on(both, alone, port):
    with pytest.raises(client.RunFailed, match="number 1 did not come to 127.0.0.1"):
        both[0][0].run(graph("missed", 0, port, patience=2))
    both[0][0].run(graph("after", None, 0))
    assert torch.equal(saved(both[0][1], "after"), alone["alone"])


def test_workflows_that_differ_are_told_on_both_sides(both, port):
    answers = run_both(both, [graph("differ", number, port, steps=3 + number) for number in (0, 1)])
    assert all("the workflows differ" in answer or "left the run" in answer for answer in answers), answers
    assert any("the workflows differ" in answer for answer in answers)


def test_one_that_is_stopped_leaves_the_other_with_a_sentence(both, port):
    answers = stopped(both, [graph("stopped", number, port, steps=400) for number in (0, 1)])
    assert answers[1] == "interrupted"
    assert "another ComfyUI left the run" in answers[0]
    both[0][0].run(graph("again", None, 0, seed=2))


def stopped(both, graphs) -> list:
    """How each ends where the second is interrupted in its fourth step."""
    first, second = both[0][0], both[1][0]
    answers, pressed = [None, None], threading.Event()

    def stop(value, total):
        if value > 3 and not pressed.is_set():
            pressed.set()
            import urllib.request

            ask = urllib.request.Request(f"{second.address}/interrupt", data=b"", method="POST")
            threading.Thread(target=urllib.request.urlopen, args=(ask,)).start()

    def run(which, comfy, **more):
        try:
            answers[which] = comfy.run(graphs[which], **more)
        except client.RunFailed as failed:
            answers[which] = str(failed)

    threads = [
        threading.Thread(target=run, args=(0, first)),
        threading.Thread(target=run, args=(1, second), kwargs={"on_step": stop}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
