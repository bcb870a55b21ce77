"""Scenes as they are drawn: what a prompt says is in the clip, and a fixed reader finds it there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import read_scene
import scenes
import torch

from attention.demo import paint, scene_prompt

COUNT = 60
WORDS = ("red", "square", "right", "cyan", "disc", "up", "first in front")


def draw(words=WORDS, seed=0, spread=1.0):
    return scenes.draw_scene(scene_prompt.number_words(words)[None], torch.Generator().manual_seed(seed), spread)


def say(numbers: torch.Tensor) -> list[str]:
    return [known[number] for known, number in zip(scene_prompt.WORDS, numbers.tolist())]


def test_the_reader_reads_what_was_drawn():
    """Colours, forms, directions and order in 98 % of drawn clips and more, each without a look at the prompt."""
    numbers = scenes.draw_words(COUNT, torch.Generator().manual_seed(20))
    drawn = scenes.draw_scene(numbers, torch.Generator().manual_seed(21))
    right = torch.zeros(4)
    for row, seven in enumerate(map(say, numbers)):
        clip = scenes.draw_clip(drawn.take(slice(row, row + 1)), 32, 96)[0]
        seen = read_scene.read_scene(clip)
        turn = 1 if seen.colours[0] == seven[0] else -1
        right += torch.tensor(
            [
                seen.colours[::turn] == (seven[0], seven[3]),
                seen.forms[::turn] == (seven[1], seven[4]),
                seen.directions[::turn] == (seven[2], seven[5]),
                seen.front is not None and scene_prompt.FRONTS[seen.front if turn == 1 else 1 - seen.front] == seven[6],
            ]
        )
    assert (right >= 0.98 * COUNT).all(), right


def test_an_empty_clip_is_read_as_nothing():
    ground = torch.full((8, 48, 48, 3), paint.GROUND[0])
    seen = read_scene.read_scene(ground)
    assert seen.forms == seen.directions == (None, None) and seen.front is None and seen.jump != seen.jump


def test_jumps_are_seen_as_jumps():
    """A shape whose place is off by 2 % of the frame, anew in each frame, jumps more than one that moves straight."""
    scene, generator = draw(), torch.Generator().manual_seed(1)
    away = [replace(scene, centre=scene.centre + 0.02 * torch.randn(1, 2, 2, generator=generator)) for _ in range(32)]
    damaged = torch.cat([scenes.draw_clip(one, 32, 96)[0, n : n + 1] for n, one in enumerate(away)])
    clean = scenes.draw_clip(scene, 32, 96)[0]
    jumps = [read_scene.read_scene(clip, ("red", "cyan")).jump for clip in (clean, damaged)]
    assert jumps[0] < 0.004 and jumps[1] > 0.03


def test_the_shape_in_front_hides_the_other():
    scene = replace(draw(spread=0.0), centre=torch.full((1, 2, 2), 0.5))
    middle = [
        scenes.draw_clip(replace(scene, front=torch.tensor([front])), 8, 64)[0, 4, 29:35, 29:35].mean((0, 1))
        for front in (0, 1)
    ]
    assert middle[0][0] > 0.6 > 0.4 > middle[0][2] and middle[1][2] > 0.6 > 0.4 > middle[1][0]


def test_shapes_enter_cross_and_leave():
    pixels = read_scene.sort_pixels(scenes.draw_prompt(WORDS, frames=32, size=64))
    for name in ("red", "cyan"):
        area = (pixels == scene_prompt.COLOURS.index(name)).float().mean((1, 2))
        assert area[0] < 0.8 * area.max() and area[-1] < 0.8 * area.max() and area.max() > 0.05
        assert min(area[0], area[-1]) < 0.5 * area.max()


@pytest.mark.parametrize("form", scene_prompt.FORMS)
def test_shapes_turn(form):
    """As a shape sees it, a point that turns with it stays where it is."""
    scene = draw(("red", form, "down-left", "cyan", "disc", "up", "first in front"), seed=3)
    times = torch.tensor([-0.2, 0.3])
    angle = (scene.direction * torch.pi / 4 + scene.phase)[0, 0] + scenes.TURN * times
    way = scene.speed[0, 0] * times
    row, column = scene.centre[0, 0, 0] + way + 0.1 * angle.sin(), scene.centre[0, 0, 1] - way + 0.1 * angle.cos()
    for number in range(2):
        along, across = scenes.place_points(scene, times[number : number + 1], row[number, None], column[number, None])
        assert abs(along[0, 0].item() - 0.1) < 1e-5 and abs(across[0, 0].item()) < 1e-5


def test_edges_are_antialiased():
    """A clip drawn small is one drawn large and averaged, but for what one pixel cannot hold."""
    small, large = (scenes.draw_prompt(WORDS, seed=5, frames=4, size=size) for size in (96, 384))
    averaged = torch.nn.functional.avg_pool2d(large.movedim(-1, 1), 4).movedim(1, -1)
    assert large.min() >= 0 and large.max() <= 1
    assert -10 * (small - averaged).square().mean().log10() > 30


def test_a_seed_gives_one_clip():
    first, again, other = (scenes.draw_prompt(WORDS, seed, 4, 48) for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


def test_every_prompt_is_told_from_every_other():
    numbers = scenes.draw_words(500, torch.Generator().manual_seed(0)).unique(dim=0)
    tokens = scene_prompt.encode_numbers(numbers)
    assert tokens.shape[1:] == (7, scene_prompt.CAPTION_CHANNELS)
    assert len(tokens.flatten(1).unique(dim=0)) == len(numbers)
    assert (numbers[:, 0] != numbers[:, 3]).all() and (numbers[:, 2] != numbers[:, 5]).all()
    # No two kinds of words share a channel.
    used = [codes.abs().amax(0) > 0 for codes in scene_prompt.CODES]
    assert torch.stack(used).sum(0).max() == 1


def test_other_words_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match="^second form 'star' is not one of disc, square, triangle, ring$"):
        scene_prompt.number_words((*WORDS[:4], "star", *WORDS[5:]))
    with pytest.raises(ValueError, match="^2 words instead of 7: colour, form"):
        scene_prompt.number_words(("red", "disc"))
