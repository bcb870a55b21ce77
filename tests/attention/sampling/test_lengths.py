"""Latent frames and pictures: by hand, and one the reverse of the other."""

from __future__ import annotations

import pytest

from attention.sampling.lengths import latent_frames, pictures_of


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
