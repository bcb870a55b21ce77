"""Latent frames and pictures: by hand, and one the reverse of the other."""

from __future__ import annotations

import pytest

from attention.sampling.lengths import begin_of, latent_frames, pictures_of


@pytest.mark.parametrize(
    ("pictures", "ratio", "frames"), [(1, 8, 1), (9, 8, 2), (97, 8, 13), (81, 4, 21), (5, 1, 5), (0, 8, 1), (-7, 4, 1)]
)
def test_frames_of_pictures(pictures, ratio, frames):
    assert latent_frames(pictures, ratio) == frames
    assert pictures_of(frames, ratio) == max(1, pictures)


def test_between_two_frames_the_nearer_one():
    assert [latent_frames(pictures, 8) for pictures in (12.9, 13.1, 20.9, 21.1)] == [2, 3, 3, 4]


def test_there_is_no_less_than_one_picture():
    assert [pictures_of(frames, 8) for frames in (-3, 0, 1, 2, 3)] == [1, 1, 1, 9, 17]


H3 = (1, 4, 4, 4, 4)


@pytest.mark.parametrize(("pictures", "frames"), [(1, 1), (5, 2), (22, 7), (124, 37), (362, 107)])
def test_frames_of_several_sizes(pictures, frames):
    """MiniMax-H3: 17 pictures in 5 latent frames, a clip of 17 n + 5 pictures."""
    assert latent_frames(pictures, 4, H3) == frames and pictures_of(frames, 4, H3) == pictures
    assert begin_of(frames, 4, H3) == pictures and begin_of(frames - 1, 4, H3) < pictures


def test_where_a_frame_begins():
    assert [begin_of(frame, 4, H3) for frame in range(8)] == [0, 1, 5, 9, 13, 17, 18, 22]
    assert [begin_of(frame, 4) for frame in range(4)] == [0, 1, 5, 9]
