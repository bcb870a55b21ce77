"""Many views summed up: the mean of the chosen blocks, the text, and pictures that show what they say."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from watched_calls import GRID, JOINT, LENGTH, draw, host, options

from attention.core.site import CROSS, SELF, VIDEO_AUDIO
from attention.inspect.draw_maps import LEAST_SIDE, RAMP, draw_heat, draw_shares, draw_token_shares, foot_of, paint
from attention.inspect.map_summary import summarise_views, to_text
from attention.inspect.maps import SAME_FRAME, Query, Watcher, survey, uniform


@pytest.fixture
def watched():
    """Three blocks of self-attention with text in the sequence, and each one's cross-attention to text and sound."""
    watcher = Watcher(Query(10, 90, 2))
    for block in range(3):
        q, k = draw(1, LENGTH, 16, seed=block), draw(1, 9, 16, seed=block + 9)
        watcher(host, q, q, q, 2, transformer_options=options(block=block))
        for role, keys in ((CROSS, k), (VIDEO_AUDIO, k[:, :4])):
            watcher(host, q, keys, keys, 2, transformer_options=options(role=role, block=block))
    return watcher


def test_chosen_blocks_are_averaged_and_all_are_listed(watched):
    own = [view for view in watched.views if view.site.role == SELF]
    maps = summarise_views(watched.views, watched.query, ((1, None),))
    assert torch.allclose(maps.heat, (own[1].heat + own[2].heat) / 2)
    assert maps.grid == GRID and maps.chosen == (1, 2) and list(maps.shares) == [0, 1, 2]
    assert maps.mean["text"] == pytest.approx((own[1].shares["text"] + own[2].shares["text"]) / 2)
    assert summarise_views(watched.views, watched.query, ((5, 6),)) is None
    found = {(spread.kind, spread.role): spread for spread in maps.token_shares}
    assert set(found) == {("text", SELF), ("reference", SELF), ("text", CROSS), ("audio", VIDEO_AUDIO)}
    assert found["text", CROSS].mean.sum() == pytest.approx(1)
    assert found["text", SELF].weights.sum(1).tolist() == pytest.approx([v.shares["text"] for v in own])
    assert torch.allclose(found["audio", VIDEO_AUDIO].mean, found["audio", VIDEO_AUDIO].weights[1:].mean(0))


def test_even_attention_has_even_shares():
    video_span = JOINT.video_span(SELF, LENGTH, LENGTH)
    _, shares = survey(iter([torch.full((2, LENGTH), 1 / LENGTH)]), LENGTH, video_span, torch.tensor([3, 33]))
    assert uniform(video_span) == pytest.approx(shares, abs=1e-6)


def test_the_text_has_the_figures(watched):
    maps = summarise_views(watched.views, watched.query, ((0, 0),))
    text = to_text(maps, watched.views, {"image": "a reason"})
    assert "frame 2, row 3, column 0" in text and "Heat: blocks 0, mean of all heads." in text
    (line,) = (line for line in text.splitlines() if line.startswith("0  "))
    assert line.split()[1:3] == [f"{100 * maps.shares[0][SAME_FRAME]:.1f}", "%"]
    assert "text: 9 tokens in cross-attention" in text and "No map of image-attention: a reason." in text
    assert "Cost: one evaluation of the model" in text


def test_frames_of_the_clip_lie_under_the_heat(watched):
    """Each map has the picture in the middle of its time; where there is no heat, it shows."""
    maps = summarise_views(watched.views, watched.query)
    cold = torch.zeros_like(maps.heat)
    cold[0, 0, 0] = 1.0
    clip = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 100, 100, 3)
    dark, *rest = draw_heat(replace(maps, heat=cold), watched.query, clip)
    assert dark.shape == (600 + foot_of(600), 600, 3)
    seen = [frame[300, 300, 0].item() for frame in (dark, *rest)]
    assert seen == pytest.approx([0.85 * picture / 8 for picture in (1, 4, 7)], abs=0.01)


def test_the_scale_of_a_narrow_picture_says_all_in_two_rows(watched):
    """Title and words of the scale share a row where both fit beside it, else nothing lies over anything."""
    maps = summarise_views(watched.views, watched.query)
    narrow = replace(maps, heat=torch.rand(3, 24, 12), queries=torch.tensor([40]))
    wide, tall = (draw_heat(one, watched.query)[0] for one in (maps, narrow))
    assert tall.shape[1] < 300 < wide.shape[1]
    # The foot's ground between two rows of text: only in the narrow one.
    feet = [frame[-foot_of(frame.shape[1]) :] for frame in (wide, tall)]
    free = [(foot[len(foot) // 2, :60] == foot[-1, 0]).all() for foot in feet]
    assert not free[0] and free[1]


def test_charts_show_every_block_and_token(watched):
    maps = summarise_views(watched.views, watched.query)
    many = replace(maps, shares=dict.fromkeys(range(40), maps.mean))
    assert draw_shares(many).height > draw_shares(maps).height > 200
    assert (
        draw_token_shares(maps.token_shares).height
        > draw_token_shares(maps.token_shares[:1]).height
        > draw_token_shares(()).height
    )


def test_colours_run_from_dark_to_light():
    ramp = paint(torch.linspace(0, 1, 50))
    assert (ramp.sum(1).diff() > 0).all()
    assert (paint(torch.tensor([0.0, 1.0, 7.0])) * 255).round().tolist() == [list(RAMP[i]) for i in (0, -1, -1)]


@pytest.mark.parametrize("key", [0, 26, 59])
def test_heat_is_drawn_where_it_is(watched, key):
    """The query's token is another: (2, 3, 0)."""
    maps = summarise_views(watched.views, watched.query)
    heat = torch.zeros(prod(GRID))
    heat[key] = 1.0
    pictures = draw_heat(replace(maps, heat=heat.view(GRID)), watched.query) * 255
    size = -(-LEAST_SIDE // max(GRID[1:]))
    assert pictures.shape == (3, size * GRID[1] + foot_of(size * GRID[2]), size * GRID[2], 3)
    for token in range(prod(GRID)):
        frame, row, column = token // 20, token // 5 % 4, token % 5
        if (row, column) == (3, 0):
            continue  # the ring is there
        middle = pictures[frame, size * row + size // 2, size * column + size // 2]
        assert (middle - torch.tensor(RAMP[-1 if token == key else 0])).abs().max() <= 12


def test_the_query_is_marked(watched):
    """A ring around the token in its frame, a thinner one in others; the outline of a mask in its frame alone."""
    maps = summarise_views(watched.views, watched.query)
    maps = replace(maps, heat=torch.zeros(GRID))
    maps.heat[0, 0, 0] = 1.0
    whites = [
        (picture[: -foot_of(picture.shape[1])] > 0.99).all(-1).sum().item()
        for picture in draw_heat(maps, watched.query)
    ]
    assert whites[2] > 2 * whites[1] > 0
    masked = Query(frame=1, mask=torch.ones(1, 4, 5))
    whites = [
        (picture[: -foot_of(picture.shape[1])] > 0.99).all(-1).sum().item()
        for picture in draw_heat(replace(maps, queries=masked.tokens(GRID)), masked)
    ]
    assert whites[1] > 1000 and whites[0] == whites[2] == 0
