"""The codec of scenes: fields as low polynomials, and clips painted from them with sharp edges."""

from __future__ import annotations

import math

import pytest
import scene_batches
import scenes
import torch

from attention.demo import scene_codec, scene_prompt

GRID = (16, 12, 12)
WORDS = ("red", "square", "right", "cyan", "triangle", "up", "first in front")


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scenes.draw_scene(scenes.draw_words(count, generator), generator)


def test_polynomials_are_orthonormal_at_the_nodes():
    (points, *_), _ = scene_codec.list_nodes((6, 1, 1))
    _, weights = scene_codec.list_nodes((6, 1, 1))
    values = scene_codec.evaluate_polynomials(points.double())
    assert torch.allclose((values * weights) @ values.T, torch.eye(4).double(), atol=1e-6)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_drawn_clip_comes_back_sharp(seed):
    """At least 38 dB against the drawn truth of 384 x 384 pixels, in frames around the crossing."""
    scene = draw(1, seed)
    latent = scene_batches.draw_latent(scene, GRID)[:, :, 6:8]
    truth = scenes.draw_clip(scene, 128, 384, slice(48, 64))
    error = (scene_codec.decode(latent) - truth).square().mean().item()
    assert -10 * math.log10(error) >= 38.0


def test_an_edge_that_moves_evenly_is_exact():
    """A straight edge at constant speed is a polynomial of first degree: every pixel is right where nothing is bent."""
    grid, nodes = (1, 2, 2), scene_codec.list_nodes((4, 5, 5))
    times, rows, columns = (scene_batches._spread(p, n) for p, n in zip(nodes[0], grid))

    def edge(t, y, x):
        return 0.1 * (2 * x[None, None] - 0.9 + 0.3 * t[:, None, None] + 0.5 * y[:, None])

    inside = edge(times, rows, columns).expand(1, 2, -1, -1, -1).contiguous()
    signs, flat = torch.tensor([[[1.0, -1, -1], [-1, 1, -1]]]), torch.zeros_like(inside)
    latent = scene_codec.encode_fields(inside, flat, signs, torch.ones(1), nodes)
    clip = scene_codec.decode(latent)[0, :, 4:-4, 4:-4]
    middle = [(torch.arange(size) + 0.5) / size for size in (8, 64, 64)]
    wanted = edge(*middle)[:, 4:-4, 4:-4] * 32
    red = clip[..., 0] - clip[..., 1] > 0.1
    sure = wanted.abs() > 1
    assert sure.float().mean() > 0.5 and torch.equal(red[sure], (wanted > 0)[sure])


def test_channels_that_are_not_used_change_nothing():
    latent = scene_batches.draw_latent(draw(1), (2, 3, 3))
    assert (latent[:, scene_codec.ACTIVE :] == 0).all()
    noisy = latent.clone()
    noisy[:, scene_codec.ACTIVE :] = torch.randn(noisy[:, scene_codec.ACTIVE :].shape)
    assert torch.equal(scene_codec.decode(noisy), scene_codec.decode(latent))


def test_latents_are_as_large_as_noise():
    """The lowest coefficients of the distance, the colours and the order deviate by about 1."""
    latent = scene_batches.draw_latent(draw(12), GRID)
    spread = latent.transpose(0, 1).flatten(1).square().mean(1).sqrt()
    lowest = spread[[0, scene_codec.FIELDS, *range(scene_codec.SIGNS, scene_codec.ACTIVE)]]
    assert (lowest > 0.7).all() and (lowest < 1.4).all(), lowest
    assert spread[: scene_codec.ACTIVE].max() < 1.4


def test_decoding_takes_each_latent_frame_by_itself():
    """But for colours and order, which run on smoothly: a clip whose colours stay is the sum of its parts."""
    latent = scene_batches.draw_latent(draw(1), (3, 4, 4))
    parts = torch.cat([scene_codec.decode(part) for part in latent.split(1, 2)], 1)
    assert torch.allclose(scene_codec.decode(latent), parts, atol=1e-5)


def test_a_clip_is_read_back_into_its_fields():
    """Where shapes do not hide each other: not twice as many pixels are wrong as of the fields as they were drawn."""
    scene = scenes.draw_scene(scene_prompt.number_words(WORDS)[None], torch.Generator().manual_seed(3))
    clip = scenes.draw_clip(scene, 64, 256, slice(8, 24))
    drawn = scene_batches.draw_latent(scene, (8, 8, 8))[:, :, 1:3]
    shape = (clip - 0.5).abs().amax(-1) > 0.15
    wrong = []
    for latent in (drawn, scene_codec.encode(clip)):
        back = scene_codec.decode(latent)
        wrong.append((((back - 0.5).abs().amax(-1) > 0.15) ^ shape).float().mean())
        assert (back - clip)[shape].square().mean() < 0.004
    assert shape.float().mean() > 0.1 and wrong[1] < min(2 * wrong[0], 0.01)


def test_what_has_no_shapes_is_background():
    for clip in (torch.full((1, 8, 32, 64, 3), 0.5), torch.full((1, 8, 32, 64, 3), 0.46)):
        back = scene_codec.decode(scene_codec.encode(clip))
        assert (back - 0.5).abs().max() < 0.05


def test_sides_need_not_be_alike():
    clip = scenes.draw_prompt(WORDS, 0, 16, 96)[None, :, :64]
    assert scene_codec.encode(clip).shape == (1, 128, 2, 2, 3)
    assert scene_codec.decode(scene_codec.encode(clip)).shape == clip.shape


def test_clips_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match=r"clip of \(9, 32, 32\)"):
        scene_codec.encode(torch.zeros(1, 9, 32, 32, 3))
