"""The demo model's codec under nodes made for a real video VAE: ComfyUI's own, and what Lightricks' pack reads."""

from __future__ import annotations

import re
from types import SimpleNamespace

import clips
import pytest
import scenes
import torch

# Lightricks/ComfyUI-LTXVideo, June 2026: every attribute of a video VAE that its nodes read or call.
OF_LIGHTRICKS = {
    "decode", "encode", "encode_tiled", "downscale_index_formula", "first_stage_model", "memory_used_decode",
}  # fmt: skip
# Names that a `vae` has in ComfyUI's nodes where it is a folder of modules, or no video's.
OTHERS = {"audio_vae", "prepare_decode"}


@pytest.fixture(params=["one shape", "scenes"])
def vae(pack, inference, request):
    return pack.nodes.demo.VideoAttentionDemoVAE.execute(request.param).args[0]


def test_without_a_choice_it_is_that_of_one_shape(pack):
    """Workflows saved before there was a choice say none."""
    assert pack.nodes.demo.VideoAttentionDemoVAE.execute().args[0].codec is pack.attention.demo.codec


def distance(one, other):
    return -10 * (one - other).square().mean().log10().item()


@pytest.mark.parametrize(("frames", "tiled"), [(16, False), (17, True)])
def test_a_drawn_clip_comes_back(vae, frames, tiled):
    """Of its own kind, before the shapes meet; a frame more than whole latent frames costs nothing."""
    if vae.codec.__name__.endswith("scene_codec"):
        words = ("red", "square", "right", "cyan", "triangle", "up", "first in front")
        pixels, least = scenes.draw_prompt(words, 3, 128, 128)[28 : 28 + frames], 38.0
    else:
        drawn = clips.draw_clip(clips.draw_scene(1, torch.Generator().manual_seed(0)))
        pixels, least = drawn[0, 20 : 20 + frames], 25.0
    encode, decode = (vae.encode_tiled, vae.decode_tiled) if tiled else (vae.encode, vae.decode)
    back = decode(encode(pixels))[0, -frames:]
    assert distance(back, pixels) >= least


def test_it_has_all_that_nodes_read(vae, comfy_host):
    files = [comfy_host / "nodes.py", *sorted((comfy_host / "comfy_extras").glob("*.py"))]
    read = set(OF_LIGHTRICKS)
    for file in files:
        read |= set(re.findall(r"(?<![\w.])vae\.([a-z_]+)\b", file.read_text(encoding="utf-8")))
    assert len(read) > 10
    assert not [name for name in sorted(read - OTHERS) if not hasattr(vae, name)]


def clip(frames, height=64, width=96):
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(frames))


@pytest.mark.parametrize(("frames", "length"), [(1, 1), (9, 2), (8, 1), (16, 2), (17, 3), (13, 2)])
def test_frames_are_counted_as_ltx_counts(vae, frames, length):
    latent = vae.encode(clip(frames))
    assert latent.shape == (1, 128, length, 2, 3)
    assert latent.shape[2] == vae.downscale_ratio[0](frames) and vae.upscale_ratio[0](length) == 8 * length
    back = vae.decode(latent)
    assert back.shape == (1, 8 * length, 64, 96, 3)


def test_it_has_the_block_and_channels_of_its_own_codec(pack, inference):
    """Of a made-up one, which gives the shapes alone."""
    codec = SimpleNamespace(
        CHANNELS=5,
        BLOCK=(4, 16, 24),
        encode=lambda clip: torch.zeros(1, 5, clip.shape[1] // 4, clip.shape[2] // 16, clip.shape[3] // 24),
    )
    vae = pack.nodes.demo.DemoVAE(codec)
    assert vae.latent_channels == 5 and vae.downscale_index_formula == vae.upscale_index_formula == (4, 16, 24)
    assert (vae.downscale_ratio[0](9), vae.upscale_ratio[0](3)) == (3, 12)
    assert vae.downscale_ratio[1:] == vae.upscale_ratio[1:] == (16, 24)
    assert vae.temporal_compression_decode() == 4
    assert vae.spacial_compression_decode() == vae.spacial_compression_encode() == 16
    assert vae.vae_encode_crop_pixels(torch.zeros(9, 40, 80, 3)).shape == (9, 32, 72, 3)
    assert vae.encode(torch.zeros(9, 40, 80, 3)).shape == (1, 5, 3, 2, 3)


def test_a_still_picture_stays_still(vae):
    picture = torch.zeros(1, 64, 64, 3) + 0.5
    picture[:, 16:48, 16:48] = torch.tensor([0.9, 0.1, 0.1])
    back = vae.decode(vae.encode(picture))[0]
    assert torch.allclose(back[:1].expand_as(back), back, atol=1e-3) and (back[0] - picture[0]).abs().mean() < 0.1


def test_odd_sizes_are_cropped_around_their_middle(vae):
    pixels = clip(8, 70, 101)
    assert torch.equal(vae.encode(pixels), vae.encode(pixels[:, 3:67, 2:98]))
    assert torch.equal(vae.encode(torch.cat([pixels, pixels[..., :1]], -1)), vae.encode(pixels)), "without alpha"


def sampled(lab, positive, negative, latent):
    import comfy.sample

    noise = comfy.sample.prepare_noise(latent["samples"], 1)
    return comfy.sample.sample(
        lab.model, noise, 1, 1.0, "euler", "simple", positive, negative, latent["samples"], disable_pbar=True, seed=1,
        noise_mask=latent.get("noise_mask"),
    )  # fmt: skip


@pytest.mark.parametrize(("frames", "at"), [(1, 0), (1, -1), (9, 0), (9, 8)])
def test_guides_on_the_demo_model(lab, vae, frames, at):
    from comfy_extras.nodes_lt import LTXVAddGuide

    latent = {"samples": torch.zeros(1, 128, 4, 2, 3)}
    made = LTXVAddGuide.execute(*lab.prompt, vae, latent, clip(frames), at, 1.0)
    positive, negative, latent = getattr(made, "args", made)
    # In the middle of a clip ComfyUI from 0.26 on puts a frame in front and drops its latent frame.
    assert latent["samples"].shape[2] - 4 in {(frames + 7) // 8, (frames + 7) // 8 - (at > 0)}
    out = sampled(lab, positive, negative, latent)
    assert torch.isfinite(out).all() and torch.isfinite(vae.decode(out)).all()


def test_a_start_image_on_the_demo_model(lab, vae):
    from comfy_extras import nodes_lt

    made = nodes_lt.LTXVImgToVideo.execute(*lab.prompt, clip(1), vae, 96, 64, 25, 1, 1.0)
    out = sampled(lab, *getattr(made, "args", made))
    assert torch.isfinite(out).all()
    if hasattr(nodes_lt, "LTXVImgToVideoInplace"):
        made = nodes_lt.LTXVImgToVideoInplace.execute(vae, clip(1), {"samples": torch.zeros(1, 128, 4, 2, 3)}, 1.0)
        (latent,) = getattr(made, "args", made)
        assert torch.isfinite(sampled(lab, *lab.prompt, latent)).all()


def test_what_upscaling_models_ask_for_changes_nothing(vae):
    x, statistics = torch.rand(1, 128, 2, 2, 2), vae.first_stage_model.per_channel_statistics
    assert torch.equal(statistics.normalize(statistics.un_normalize(x)), x)
    assert vae.patcher.clone().model is vae.first_stage_model and vae.get_sd() == {}


def test_the_kept_frequencies_are_the_low_ones_each_once(pack):
    """With each frequency those below it on every axis; the finer, the larger its scale; rows and columns alike."""
    codec = pack.attention.demo.codec
    scales = dict(zip(codec.FREQUENCIES, codec.SCALES, strict=True))
    assert len(scales) == len(codec.FREQUENCIES) == 24 and codec.ACTIVE == 72
    for (t, y, x), scale in scales.items():
        assert scales[t, x, y] == scale
        for lower in ((t - 1, y, x), (t, y - 1, x), (t, y, x - 1)):
            assert min(lower) < 0 or scales[lower] <= scale


@pytest.mark.parametrize("edge", [33, 40, 57])
def test_a_blurred_edge_is_sharp_again_where_it_was(pack, edge):
    """To the pixel beside it."""
    picture = torch.full((1, 8, 96, 96, 3), 0.5)
    picture[:, :, :, edge:] = torch.tensor([0.9, 0.1, 0.1])
    codec = pack.attention.demo.codec
    wrong = (codec.decode(codec.encode(picture)) - picture).abs().amax((0, 1, 2, 4))
    wrong[edge - 2 : edge + 2] = 0.0
    assert wrong.max() < 0.02
