"""The trainer of scenes on a tiny grid: it goes on where it was stopped, and stages follow each other."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import muon
import place
import pytest
import scenes
import torch
import train_demo
import train_scenes
from hear_interrupts import hear_interrupts
from safetensors import safe_open
from scene_batches import draw_latent, make_batch

from attention.blocks.rope import rotate
from attention.demo import scene_codec

GRID = ("2", "3", "3")


def words(folder, *more, grid=GRID, steps=4):
    return train_scenes.parse(
        ["--stage", *grid, "--steps", str(steps), "--batch", "2", "--layers", "3", "--workers", "1", "--no-compile"]
        + ["--checkpoint", str(folder / "run.pt"), "--out", str(folder / "out.safetensors"), "--save-minutes", "100"]
        + ["--place-steps", "1", *more]
    )


@pytest.fixture
def quick(monkeypatch):
    """Looks are not fitted, only drawn."""
    monkeypatch.setattr(place, "_fit_look", lambda cos, sin, target, g: torch.randn(2, 2 * cos.shape[1], generator=g))


class Stopped(Exception):
    pass


def stop_after(monkeypatch, steps):
    plain = train_scenes.Run.take_step

    def take_step(run, *args):
        if run.step == steps:
            raise Stopped
        return plain(run, *args)

    monkeypatch.setattr(train_scenes.Run, "take_step", take_step)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, quick):
    (tmp_path / "whole").mkdir()
    whole = train_scenes.train(words(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            train_scenes.train(words(tmp_path, "--save-minutes", "0"))
    again = train_scenes.train(words(tmp_path, "--resume"))
    assert again.step == whole.step == 4 and again.curve == whole.curve
    for name, value in whole.average.state_dict().items():
        assert torch.equal(again.average.state_dict()[name], value), name
    assert whole.curve[0][0] == 0 and all(flow > 0 for flow, *_ in whole.curve[1:])


def test_a_stage_begins_with_the_weights_of_the_last(tmp_path, quick):
    first = train_scenes.train(words(tmp_path, steps=2))
    run = train_scenes.Run(words(tmp_path, "--resume", grid=("3", "4", "4")))
    assert run.step == 0 and run.stages == [{"grid": (2, 3, 3), "batch": 2, "step": 2, "spent": first.spent}]
    assert run.losses.model.config.positional_embedding_max_pos[1] == 10700 * 4 / 8
    feed = "transformer_blocks.2.ff.net.2.weight"
    assert torch.equal(run.losses.model.state_dict()[feed], first.average.state_dict()[feed])
    last = train_scenes.train(words(tmp_path, "--resume", grid=("3", "4", "4"), steps=2))
    assert len(last.curve) == 4 and all(map(math.isfinite, sum(last.curve, ())))
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        assert '"positional_embedding_max_pos": [40.125, 5350.0, 5350.0]' in file.metadata()["config"]


def test_workers_average_their_gradients(tmp_path, monkeypatch):
    """Two processes of one clip each take the step of one process with both clips, and write one checkpoint."""
    args = words(tmp_path, "--kept", "1", steps=1)
    args.workers = 2
    torch.multiprocessing.spawn(train_scenes.work, (args, str(tmp_path / "meeting")), nprocs=2)
    shared = torch.load(tmp_path / "run.pt")

    def make_both(count, grid, generator):
        clips = [make_batch(1, grid, torch.Generator().manual_seed(rank)) for rank in range(count)]
        return tuple(map(torch.cat, zip(*clips)))

    monkeypatch.setattr(train_scenes, "make_batch", make_both)
    begun = train_scenes.Run(words(tmp_path)).losses.state_dict()
    alone = train_scenes.train(words(tmp_path, "--kept", "1", steps=1))
    assert shared["curve"][0] == pytest.approx(alone.curve[0], rel=1e-3)
    moves, wrong = 0.0, 0.0
    for name, value in alone.losses.state_dict().items():
        moves += (value - begun[name]).double().square().sum().item()
        wrong += (value - shared["losses"][name]).double().square().sum().item()
    assert moves > 0 and math.sqrt(wrong / moves) < 0.3, math.sqrt(wrong / moves)


def test_the_trunk_learns_now_and_then(tmp_path, quick):
    """Between the steps that train the trunk its own weights stay; those behind it move at every step."""
    run = train_scenes.Run(words(tmp_path, "--trunk-every", "2"))
    trunk, behind = (run.losses.model.transformer_blocks[number].ff.net[2].weight for number in (0, 2))
    run.step = 1
    moved = []
    for _ in range(4):
        before = trunk.clone(), behind.clone()
        run.take_step(run.losses, 0.0)
        moved.append((not torch.equal(trunk, before[0]), not torch.equal(behind, before[1])))
    assert moved == [(False, True), (True, True), (False, True), (True, True)]


@pytest.mark.parametrize("shape", [(5, 24, 24), (3, 12, 40), (2, 40, 12), (1, 8, 8)])
def test_muon_takes_the_steps_of_torchs(shape):
    """Beside torch.optim.Muon, which rounds to bfloat16, over three steps from random weights and gradients."""
    generator = torch.Generator().manual_seed(sum(shape))
    weights = torch.randn(shape, generator=generator)
    ours, theirs = ([torch.nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    optimisers = (muon.Muon(ours, lr=0.02), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01))
    for _ in range(3):
        for one, other in zip(ours, theirs):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    moved = torch.stack(list(theirs)) - weights
    assert (torch.stack(list(ours)) - weights - moved).norm() < 0.05 * moved.norm()


def test_orthogonalised_matrices_keep_their_singular_vectors():
    matrices = torch.randn(4, 20, 12, generator=torch.Generator().manual_seed(0)).double()
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inner = left.mT @ muon.orthogonalise(matrices).double() @ right.mT
    assert (inner.diagonal(dim1=1, dim2=2) - 0.95).abs().max() < 0.35
    assert (inner - torch.diag_embed(inner.diagonal(dim1=1, dim2=2))).abs().max() < 0.05


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="sessions are POSIX's")
def test_an_interrupt_ends_the_workers_too(tmp_path):
    """What a terminal does at Ctrl+C: SIGINT to the process group, in which the workers are not."""
    psutil = pytest.importorskip("psutil", reason="psutil comes with ComfyUI")
    file = tmp_path / "run.pt"
    command = [sys.executable, train_scenes.__file__, "--stage", *GRID, "--batch", "2", "--layers", "3", "--no-compile"]
    command += ["--checkpoint", str(file), "--out", str(tmp_path / "out.safetensors"), "--save-minutes", "0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    parent = subprocess.Popen(command, start_new_session=True, preexec_fn=hear_interrupts, **quiet)
    workers = []
    try:
        wait_for(file.exists, parent)
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(240) != 0
        assert not psutil.wait_procs(workers, 120)[1]
    finally:
        for process in (parent, *(worker for worker in workers if worker.is_running())):
            process.kill()


def wait_for(done, process, seconds=240):
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)


def test_a_batch_is_shared_evenly(tmp_path, quick):
    args = words(tmp_path)
    args.workers = 3
    with pytest.raises(ValueError, match="a batch of 2 cannot be shared by 3 workers"):
        train_scenes.Run(args)


def test_looks_see_the_neighbour():
    """Each look's attention is at the neighbour along its axis, or at the token itself at the border."""
    grid, generator = (3, 4, 4), torch.Generator().manual_seed(0)
    model = train_demo.build(0, True, train_scenes.configure(grid, 2), grid, scene_codec.ACTIVE)
    tables = model.tables(grid, 25.0, "cpu")
    x = torch.randn(1, 48, model.config.width, generator=generator)
    for index, head, axis, step in place.LOOKS[4, 64]:
        q, k, _ = model.transformer_blocks[index].attn1.project(x, x)
        q, k = (rotate(z, *tables)[0, :, head] for z in (q, k))
        seen = (q @ k.T).argmax(-1)
        assert (seen == place._neighbours(grid, axis, step)).all(), (index, head)


def test_other_heads_are_refused():
    config = train_demo.LTXConfig(num_attention_heads=2, attention_head_dim=32, cross_attention_dim=64)
    model = train_demo.LTXVideoTransformer(config)
    with pytest.raises(ValueError, match="6 heads of 32 and 4 of 64, not 2 of 32"):
        place.give_place(model, (2, 2, 2), 25.0, torch.Generator())


def test_channels_count_about_once():
    """Places count most near a shape, its colour alike everywhere; about 1 on average of drawn scenes."""
    generator = torch.Generator().manual_seed(0)
    clip = draw_latent(scenes.draw_scene(scenes.draw_words(8, generator), generator), (8, 8, 8))
    tokens = clip[:, : scene_codec.ACTIVE].flatten(2).mT
    weights = train_scenes.weigh(tokens)
    assert weights.shape == tokens.shape and 0.6 < weights.mean() < 1.4
    far = tokens[..., :2].norm(dim=-1)
    nearest, farthest = (weights[far == value].flatten() for value in (far.min(), far.max()))
    assert nearest[0] > 3 * farthest[0] and nearest[9] == farthest[9] > 0
