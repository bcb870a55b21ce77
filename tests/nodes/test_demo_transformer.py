"""The trainable blocks agree with the host's own LTXVModel."""

import json

import pytest
import torch
import train_scenes

from attention.demo.transformer import LTXConfig, LTXVideoTransformer, attend, attend_inside_frames

CASES = [
    pytest.param(LTXConfig(num_layers=2), (2, 3, 4), id="demo-width"),
    pytest.param(
        LTXConfig(num_layers=1, num_attention_heads=2, attention_head_dim=32, cross_attention_dim=64),
        (2, 2, 3),
        id="width-not-a-multiple-of-six-pads-the-rotary-pairs",
    ),
    pytest.param(LTXConfig(num_layers=1, causal_temporal_positioning=True), (3, 2, 2), id="first-frame-alone"),
    pytest.param(
        LTXConfig(num_layers=1, positional_embedding_max_pos=(107.0, 10700.0, 10700.0)), (8, 2, 2), id="demo-positions"
    ),
    pytest.param(train_scenes.configure((16, 12, 12), 1), (4, 3, 3), id="scenes"),
]


def fill(model, seed=0):
    """Random weights, norms near one, so that no term of the block is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.08 + ("norm" in name))
    return model.eval()


def draw(config, grid, batch=2):
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(batch, config.in_channels, *grid, generator=generator)
    context = torch.randn(batch, 3, config.caption_channels, generator=generator)
    return latent, torch.tensor([0.9, 0.3])[:batch], context


@pytest.mark.parametrize("config, grid", CASES)
@pytest.mark.parametrize("mask", [None, [[1, 1, 1], [1, 0, 1]]], ids=["unmasked", "masked"])
def test_same_output_as_host(comfy_host, config, grid, mask):
    host_ltx = pytest.importorskip("comfy.ldm.lightricks.model")
    ops = pytest.importorskip("comfy.ops").disable_weight_init
    mine = fill(LTXVideoTransformer(config))
    theirs = host_ltx.LTXVModel(**config.to_metadata(), dtype=torch.float32, device="cpu", operations=ops)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    latent, t, context = draw(config, grid)
    mask = None if mask is None else torch.tensor(mask)
    with torch.no_grad():
        want = theirs(latent.clone(), t, context, mask, frame_rate=25)
        got = mine(latent, t, context, mask, frame_rate=25)
    assert torch.linalg.vector_norm(got - want) <= 1e-5 * torch.linalg.vector_norm(want)


def test_norms_are_kept_from_zero_by_as_much_as_the_host_s(comfy_host):
    """Less than a test of outputs sees, unless what is normed is next to nothing."""
    host_ltx = pytest.importorskip("comfy.ldm.lightricks.model")
    ops = pytest.importorskip("comfy.ops").disable_weight_init
    config = LTXConfig(num_layers=1)
    mine = LTXVideoTransformer(config)
    theirs = host_ltx.LTXVModel(**config.to_metadata(), dtype=torch.float32, device="cpu", operations=ops)
    found = [
        {name: module.eps for name, module in model.named_modules() if hasattr(module, "weight") and "norm" in name}
        for model in (mine, theirs)
    ]
    # The last norm of ours is a function.
    assert len(found[0]) == 4 and found[0].items() <= found[1].items()


def test_config_survives_metadata():
    config = LTXConfig(num_layers=3, positional_embedding_max_pos=(1.0, 2.0, 3.0))
    assert LTXConfig.from_metadata(json.loads(json.dumps(config.to_metadata()))) == config


def test_unknown_metadata_is_named():
    with pytest.raises(ValueError, match="cross_attention_adaln"):
        LTXConfig.from_metadata({"cross_attention_adaln": True})


def test_width_mismatch_is_refused():
    with pytest.raises(ValueError, match="192"):
        LTXConfig(cross_attention_dim=64)


def test_every_weight_gets_a_gradient():
    config = LTXConfig(num_layers=2)
    model = fill(LTXVideoTransformer(config))
    latent, t, context = draw(config, (2, 2, 2))
    model(latent, t, context).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_attention_inside_frames_ignores_other_frames():
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 12, 8, generator=generator)
    whole = attend_inside_frames(q, k, v, (3, 2, 2))
    for frame in range(3):
        part = slice(4 * frame, 4 * frame + 4)
        torch.testing.assert_close(whole[:, :, part], attend(q[:, :, part], k[:, :, part], v[:, :, part], (1, 2, 2)))
