"""The trained examples: the demo models inside frames, with the temporal blocks that come with the pack."""

from __future__ import annotations

import evaluate_demo as demo
import evaluate_scenes
import host
import pytest
import torch
import train_temporal

from attention.blocks import weights
from attention.demo.transformer import attend, attend_inside_frames
from benchmarks.demo_model import TESTBEDS

MODELS = host.ROOT / "models"


class Trained:
    """A demo model, its blocks, and a prompt with noise."""

    def __init__(self, name: str):
        self.kind, self.testbed = train_temporal.KINDS[name], TESTBEDS[name]
        self.blocks = MODELS / f"video_attention_blocks/video-attention-{self.kind.out}.safetensors"
        self.teacher = demo.load_model(self.kind.asked.path).requires_grad_(False)
        self.student = train_temporal.Student(self.teacher, weights.load(self.blocks).float())
        self.noise = torch.randn(2, 128, *self.kind.asked.grid, generator=torch.Generator().manual_seed(3))
        self.words = self.testbed.unseen(2)
        self.tokens = torch.cat([self.testbed.prompts_of(words)[0][0][0].cpu() for words in self.words])

    def sample(self, model, way) -> torch.Tensor:
        """A latent (128, T, Y, X) of the first prompt, in six steps."""
        return evaluate_scenes.sample(model, self.noise[:1], self.tokens[:1], 6, way)[0]


@pytest.fixture(scope="module", params=train_temporal.KINDS)
def trained(request, comfy_host):
    return Trained(request.param)


@torch.no_grad()
def test_the_blocks_bring_the_clip_of_joint_attention_back(trained):
    joint, without, with_blocks = (
        trained.sample(*way)
        for way in ((trained.teacher, attend), (trained.teacher, attend_inside_frames), (trained.student, None))
    )
    active = trained.kind.active
    assert (with_blocks - joint)[:active].norm() < 0.5 * (without - joint)[:active].norm()


@torch.no_grad()
def test_the_blocks_bring_consistency_back(trained):
    """Six steps from the same noise: the shape jumps less than a third as far as without the blocks."""
    if trained.kind is not train_temporal.KINDS["small"]:
        pytest.skip("without the blocks shapes of scenes stand still, so that they hardly jump")
    jumps = []
    for model, way in ((trained.teacher, attend_inside_frames), (trained.student, None)):
        clip = trained.testbed.decode(trained.sample(model, way)[None])
        jumps.append(demo.measure(clip, trained.words[:1])["jump_pixels"])
    assert jumps[1] < jumps[0] / 3


@torch.no_grad()
def test_they_learned_the_flow_of_the_joint_model(trained):
    t, active = torch.full((2,), 0.9), trained.kind.active
    flow, inside = (
        trained.teacher(trained.noise, t, trained.tokens, self_attention=way)[:, :active]
        for way in (attend, attend_inside_frames)
    )
    learned = trained.student(trained.noise, t, trained.tokens)[:, :active]
    assert (learned - flow).norm() < 0.5 * (inside - flow).norm()


def test_the_nodes_give_what_the_training_saw(pack, inference, trained):
    """Load Diffusion Model, Sparse Pattern (spatial), Temporal Blocks of this pack: one model call."""
    import comfy.sd

    rules, spatial = pack.attention.routing.rules, pack.attention.patterns.spatial.Spatial()
    rule = rules.Rule("", "self", shape=rules.Shape(spatial, min_tokens=64))
    model = pack.nodes.host.model_rules.add_rule(comfy.sd.load_diffusion_model(str(trained.kind.asked.path)), rule)
    model, chosen = pack.nodes.host.temporal_grafts.add_blocks(model, trained.blocks)
    assert chosen == tuple(range(len(trained.teacher.transformer_blocks)))
    seen, noise = {}, trained.noise[:1]

    def look(apply_model, args):
        seen["flow"] = apply_model(args["input"], args["timestep"], **args["c"])
        seen["given"] = args["input"], args["timestep"]
        return seen["flow"]

    model.set_model_unet_function_wrapper(look)
    positive = trained.testbed.prompts_of(trained.words[0])[0]
    comfy.sample.sample(model, noise, 1, 1.0, "euler", "simple", positive, positive, noise * 0, disable_pbar=True,
                        seed=1)  # fmt: skip
    latent, sigma = seen["given"]
    flow = (latent - seen["flow"]) / sigma.view(-1, 1, 1, 1, 1)
    with torch.no_grad():
        want = trained.student(latent.clone(), sigma, trained.tokens[:1])
    assert (flow - want).norm() < 0.02 * want.norm()


def test_the_file_is_small(trained):
    assert trained.blocks.stat().st_size < 5e6
