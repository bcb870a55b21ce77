"""A region that is followed by the flow inside it: where a motion known by hand must take it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from attention.measure.tracked_region import GROWTH, Track, follow

HEIGHT, WIDTH = 48, 64
ROWS, COLUMNS = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")


def box(left: int, right: int, top: int, bottom: int) -> torch.Tensor:
    region = torch.zeros(1, 1, HEIGHT, WIDTH)
    region[..., top:bottom, left:right] = 1.0
    return region


def motion(across: torch.Tensor, down: torch.Tensor, matched=None):
    flow = torch.stack((across, down))[None]
    found = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool) if matched is None else matched
    return SimpleNamespace(forward=flow, matched=found)


def place(track: Track, point: tuple[float, float]) -> list[float]:
    return (track.scale * torch.tensor(point) + track.offset).tolist()


def start(region: torch.Tensor, scale=1.0, offset=(0.0, 0.0)) -> Track:
    return Track(region=region, scale=scale, offset=torch.tensor(offset))


def test_a_region_moves_as_its_pixels_do():
    moved = follow(start(box(10, 20, 10, 20)), motion(torch.full_like(COLUMNS, 3.0), torch.full_like(ROWS, -2.0)))
    assert moved.scale == pytest.approx(1.0) and moved.offset.tolist() == pytest.approx([3.0, -2.0])


@pytest.mark.parametrize("still", [(14.5, 14.5), (40.0, 5.0), (0.0, 0.0)])
@pytest.mark.parametrize("grow", [0.1, -0.05])
def test_what_grows_around_a_point_leaves_that_point_where_it_is(still, grow):
    """Wherever the point is, in the region or far off, and wherever the track was before."""
    flow = motion(grow * (COLUMNS - still[0]), grow * (ROWS - still[1]))
    moved = follow(start(box(10, 21, 10, 21), 1.5, (4.0, -6.0)), flow)
    before = [(still[0] - 4.0) / 1.5, (still[1] + 6.0) / 1.5]
    assert moved.scale == pytest.approx(1.5 * (1 + grow), rel=1e-4)
    assert place(moved, before) == pytest.approx(still, abs=1e-3)


def test_no_frame_grows_a_region_more_than_a_fifth():
    for grow, kept in ((0.6, GROWTH), (-0.6, -GROWTH)):
        moved = follow(start(box(10, 20, 10, 20)), motion(grow * COLUMNS, grow * ROWS))
        assert moved.scale == pytest.approx(1 + kept)


def test_some_wrong_pixels_move_nothing():
    across = torch.full_like(COLUMNS, 2.0)
    across[10:14, 10:20] = 50.0
    moved = follow(start(box(10, 20, 10, 20)), motion(across, torch.zeros_like(ROWS)))
    middle = place(moved, (14.5, 14.5))
    assert middle == pytest.approx([16.5, 14.5], abs=1e-3)


def test_pixels_outside_or_without_a_match_have_no_say():
    across, matched = torch.full_like(COLUMNS, 9.0), torch.zeros(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    across[10:20, 10:15], matched[..., 10:20, 10:15] = 1.0, True
    region = box(10, 20, 10, 20)
    assert follow(start(region), motion(across, torch.zeros_like(ROWS), matched)).offset.tolist() == [1.0, 0.0]
    nowhere = start(region)
    assert follow(nowhere, motion(across, torch.zeros_like(ROWS), torch.zeros_like(matched))) is nowhere
