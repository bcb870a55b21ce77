"""The trained example: the demo model inside frames, with the temporal blocks that come with the pack."""

from __future__ import annotations

import evaluate_demo as demo
import host
import pytest
import torch
import train_temporal
from batches import GRID

from attention.blocks import weights
from attention.demo import codec, prompt
from attention.demo.transformer import attend, attend_inside_frames

MODELS = host.ROOT / "models"
BLOCKS = MODELS / "video_attention_blocks/video-attention-temporal.safetensors"
WORDS = [("red", "disc", "right"), ("cyan", "square", "up-left")]


@pytest.fixture(scope="module")
def teacher():
    return demo.load_model(MODELS / "diffusion_models/video-attention-demo.safetensors").requires_grad_(False)


@pytest.fixture(scope="module")
def student(teacher):
    return train_temporal.Student(teacher, weights.load(BLOCKS).float())


@pytest.fixture(scope="module")
def noise():
    return torch.randn(2, 128, *GRID, generator=torch.Generator().manual_seed(3))


def words():
    return torch.cat([prompt.encode_prompt(*three)[0] for three in WORDS])


@torch.no_grad()
def test_the_blocks_bring_consistency_back(teacher, student, noise):
    """Six steps from the same noise: the shape jumps less than a third as far as without the blocks."""
    jumps = []
    for model, way in ((teacher, attend_inside_frames), (student, None)):
        latent = demo.sample(model, noise[:1], words()[:1], 6, 1.0, way)
        jumps.append(demo.measure(codec.decode(latent), WORDS[:1])["jump_pixels"])
    assert jumps[1] < jumps[0] / 3


@torch.no_grad()
def test_they_learned_the_flow_of_the_joint_model(teacher, student, noise):
    t = torch.full((2,), 0.9)
    flow = teacher(noise, t, words(), self_attention=attend)[:, : codec.ACTIVE]
    inside = teacher(noise, t, words(), self_attention=attend_inside_frames)[:, : codec.ACTIVE]
    learned = student(noise, t, words())[:, : codec.ACTIVE]
    assert (learned - flow).norm() < 0.5 * (inside - flow).norm()


def test_the_nodes_give_what_the_training_saw(pack, inference, student, noise):
    """Load Diffusion Model, Sparse Pattern (spatial), Temporal Blocks of this pack: one model call."""
    import comfy.sd

    rules, spatial = pack.attention.routing.rules, pack.attention.patterns.spatial.Spatial()
    model = comfy.sd.load_diffusion_model(str(MODELS / "diffusion_models/video-attention-demo.safetensors"))
    rule = rules.Rule("", "self", shape=rules.Shape(spatial, min_tokens=64))
    model, chosen = pack.nodes.host.temporal_grafts.add_blocks(
        pack.nodes.host.model_rules.add_rule(model, rule), BLOCKS
    )
    assert chosen == (0, 1, 2, 3, 4)
    seen = {}

    def look(apply_model, args):
        seen["flow"] = apply_model(args["input"], args["timestep"], **args["c"])
        seen["given"] = args["input"], args["timestep"]
        return seen["flow"]

    model.set_model_unet_function_wrapper(look)
    positive = pack.nodes.demo._conditioning(*prompt.encode_prompt(*WORDS[0]))
    comfy.sample.sample(model, noise[:1], 1, 1.0, "euler", "simple", positive, positive, noise[:1] * 0,
                        disable_pbar=True, seed=1)  # fmt: skip
    latent, sigma = seen["given"]
    flow = (latent - seen["flow"]) / sigma.view(-1, 1, 1, 1, 1)
    with torch.no_grad():
        want = student(latent.clone(), sigma, words()[:1])
    assert (flow - want).norm() < 0.02 * want.norm()


def test_the_file_is_small():
    assert BLOCKS.stat().st_size < 5e6
