"""The codec of scenes: what a clip's shapes are, seen from each token, and clips painted from it with sharp edges."""

from __future__ import annotations

import math

import pytest
import scene_batches
import scenes
import torch

from attention.demo import scene_codec, scene_fit, scene_prompt

GRID = (16, 12, 12)
WORDS = ("red", "square", "right", "cyan", "triangle", "up", "first in front")


def draw(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scenes.draw_scene(scenes.draw_words(count, generator), generator)


def decibels(one, other):
    return -10 * math.log10((one - other).square().mean().item())


@pytest.mark.parametrize("seed", [3, 4])
def test_a_drawn_clip_comes_back_sharp(seed):
    """Far more than 38 dB against the drawn truth of 384 x 384 pixels, in frames around the crossing."""
    scene = draw(1, seed)
    latent = scene_batches.draw_latent(scene, GRID)[:, :, 4:10]
    truth = scenes.draw_clip(scene, 128, 384, slice(48, 64))
    assert decibels(scene_codec.decode(latent)[:, 16:32], truth) >= 50.0


@pytest.mark.parametrize("forms", [("disc", "square"), ("triangle", "ring"), ("square", "square"), ("ring", "disc")])
def test_a_clip_is_read_back_from_its_pixels(forms):
    """Also where a shape is hidden or leaves the frame: 38 dB over the whole of a drawn clip, two of each pair."""
    words = scenes.draw_words(2, torch.Generator().manual_seed(len("".join(forms))))
    words[:, [1, 4]] = torch.tensor([scene_prompt.FORMS.index(form) for form in forms])
    scene = scenes.draw_scene(words, torch.Generator().manual_seed(5))
    for row in range(2):
        clip = scenes.draw_clip(scene.take(slice(row, row + 1)), 64, 128)
        assert decibels(scene_codec.decode(scene_codec.encode(clip)), clip) >= 38.0


@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-2])
def test_noise_that_nobody_sees_changes_nothing(noise):
    """As much as half precision, a file's 8 bits or a sampler's last step leave in a clip."""
    words = scenes.draw_words(2, torch.Generator().manual_seed(12))
    words[:, [1, 4]] = torch.tensor([2, 3])
    scene = scenes.draw_scene(words, torch.Generator().manual_seed(5)).take(slice(1, 2))
    clip = scenes.draw_clip(scene, 64, 128)
    noisy = clip + noise * torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    assert decibels(scene_codec.decode(scene_codec.encode(noisy)), clip) >= 38.0


def test_one_frame_is_enough():
    """A picture that stands still, as guides and start images are given."""
    clip = scenes.draw_prompt(WORDS, 3, 64, 128)[None, 16:17].expand(1, 8, -1, -1, -1)
    assert decibels(scene_codec.decode(scene_codec.encode(clip)), clip) >= 38.0


def test_encoding_works_where_no_gradient_may_be():
    """ComfyUI runs nodes in inference mode."""
    clip = scenes.draw_prompt(WORDS, 3, 16, 96)[None]
    with torch.inference_mode():
        inside = scene_codec.encode(clip.clone())
    assert torch.allclose(inside, scene_codec.encode(clip), atol=1e-4)


def test_splines_keep_straight_lines():
    """Every point of a line is on it, also beyond the outermost tokens' middles; few tokens are no fault."""
    for tokens, points in ((1, 8), (2, 32), (3, 8), (12, 32)):
        spread = scene_codec.make_splines(tokens, points).double()
        line = torch.arange(tokens).double() if tokens > 1 else torch.zeros(1).double()
        wanted = (torch.arange(tokens * points) + 0.5) / points - 0.5 if tokens > 1 else torch.zeros(points)
        assert torch.allclose(spread @ line, wanted.double(), atol=1e-5)
        assert torch.allclose(spread.sum(1), torch.ones(tokens * points).double(), atol=1e-5)


def test_splines_smooth_noise():
    """A quarter of the variance of single tokens along an axis and less stays between the outermost tokens."""
    spread = scene_codec.make_splines(12, 32)[64:-64]
    assert spread.square().sum(1).max() < 0.51 and spread.square().sum(1).mean() < 0.5


def test_channels_that_are_not_used_change_nothing():
    latent = scene_batches.draw_latent(draw(1), (2, 3, 3))
    assert (latent[:, scene_codec.ACTIVE :] == 0).all()
    noisy = latent.clone()
    noisy[:, scene_codec.ACTIVE :] = torch.randn(noisy[:, scene_codec.ACTIVE :].shape)
    assert torch.equal(scene_codec.decode(noisy), scene_codec.decode(latent))


def test_latents_are_about_as_large_as_noise():
    """All but the radius, which hardly differs; the place, which must stand out of noise, is somewhat larger."""
    latent = scene_batches.draw_latent(draw(24), GRID)[:, : scene_codec.ORDER]
    spread = latent.transpose(0, 1).flatten(1).square().mean(1).sqrt().view(2, -1)
    assert (spread[:, :2] > 1.2).all() and (spread[:, :2] < 2).all(), spread
    assert (spread[:, 4] > 0.1).all() and (spread[:, 4] < 0.6).all(), spread
    others = spread[:, [2, 3, *range(5, scene_codec.SHAPE)]]
    assert (others > 0.6).all() and (others < 1.4).all(), spread


def test_the_order_decides_who_is_in_front():
    words = scene_prompt.number_words(WORDS)[None]
    clips = []
    for order in (0, 1):
        words[0, 6] = order
        scene = scenes.draw_scene(words, torch.Generator().manual_seed(3))
        clips.append(scene_codec.decode(scene_batches.draw_latent(scene, (8, 8, 8)))[0])
        drawn = scenes.draw_clip(scene, 64, 256)
        (first, _), front = scene_fit.find_shapes(drawn[0])
        red_first = bool((first.signs == torch.tensor([1.0, -1, -1])).all())
        assert (front == red_first) == (order == 0)
    assert (clips[0] - clips[1]).abs().max() > 0.3


def test_what_has_no_shapes_is_background():
    for clip in (torch.full((1, 8, 32, 64, 3), 0.5), torch.full((1, 8, 32, 64, 3), 0.46)):
        back = scene_codec.decode(scene_codec.encode(clip))
        assert (back - 0.5).abs().max() < 0.05


def test_one_shape_is_one_shape():
    """The second colour of a clip with one shape is nowhere."""
    clip = torch.full((1, 8, 96, 96, 3), 0.5)
    clip[:, :, 24:64, 24:64] = 0.5 + torch.tensor([1.0, -1, -1]) * 0.42
    back = scene_codec.decode(scene_codec.encode(clip))
    red = (back[..., 0] - back[..., 1] > 0.2).float()
    assert red[:, :, 30:58, 30:58].mean() > 0.9 and red.sum() < 1.3 * 8 * 40 * 40
    assert ((back - 0.5).abs().amax(-1) * (1 - red))[:, :, 70:].max() < 0.06


def test_sides_need_not_be_alike():
    clip = scenes.draw_prompt(WORDS, 0, 16, 96)[None, :, :64]
    assert scene_codec.encode(clip).shape == (1, 128, 2, 2, 3)
    assert scene_codec.decode(scene_codec.encode(clip)).shape == clip.shape


def test_clips_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match=r"clip of \(9, 32, 32\)"):
        scene_codec.encode(torch.zeros(1, 9, 32, 32, 3))


def test_copies_in_front_say_nothing_of_a_motion():
    """A clip filled up in front to whole latent frames moves as before, and is taken to have moved there too."""
    clip = scenes.draw_prompt(WORDS, 3, 128, 96)[None, 28:52]
    filled = torch.cat([clip[:, 7:8].expand(-1, 7, -1, -1, -1), clip[:, 7:]], 1)
    assert decibels(scene_codec.decode(scene_codec.encode(filled)), clip) >= 38.0
