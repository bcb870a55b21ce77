"""How a window of a long clip gets its part of a condition, each kind by itself."""

from __future__ import annotations

import pytest
import torch

from attention.families.conditions import Each, First, Heard, Laid, Padded, Start


def numbered(count: int) -> torch.Tensor:
    """(1, 1, count) of 0, 1, 2 ..."""
    return torch.arange(count, dtype=torch.float32).view(1, 1, count)


@pytest.mark.parametrize(("entries", "kept"), [(9, 3), (11, 5), (10, 4)])
def test_references_come_before_as_many_entries_as_the_window_has_frames(entries, kept):
    """A clip of 9 frames, of which the window has 3: entries above 9 are references, and all of them stay."""
    found = Padded().cut(numbered(entries), [3, 4, 5], 9)
    assert found.flatten().tolist() == list(range(kept))


def test_what_ends_before_the_clip_is_no_reference():
    assert Padded().cut(numbered(4), [6, 7, 8], 9).shape[2] == 3


def test_a_start_image_is_for_windows_at_the_begin():
    assert First().cut("image", [0, 1, 2], 9) == "image"
    assert First().cut("image", [3, 4, 5], 9) is None
    # A reference in front of a later window is no begin.
    assert First().cut("image", [0, 4, 5], 9) is None


def test_what_is_known_of_the_first_frames_ends_with_them():
    """Four frames are given: a window from the third on has two of them, a later one none."""
    assert Start().cut(numbered(4), [2, 3, 4, 5], 9).flatten().tolist() == [2, 3]
    assert Start().cut(numbered(4), [3, 4, 5], 9).flatten().tolist() == [3]
    assert Start().cut(numbered(4), [4, 5, 6], 9) is None


def test_of_a_list_what_is_as_long_as_the_clip_is_cut():
    clip, reference, flat = numbered(9), numbered(1), torch.zeros(9, 9)
    found = Each().cut([clip, reference, flat], [3, 4, 5], 9)
    assert found[0].flatten().tolist() == [3, 4, 5] and found[1] is reference and found[2] is flat


H3 = (1, 4, 4, 4, 4)


def test_pictures_at_a_place_are_for_the_windows_that_have_it():
    """12 latent frames of MiniMax-H3 are 39 pictures; windows of 7 are 22, and begin at pictures 0 and 17."""
    frames = [{"resolved_frame_index": at, "latent": object()} for at in (0, 20, 38)]
    latents, reference = [one["latent"] for one in frames], object()
    whole = {
        "layout": "of all", "seed": 3, "frame_count": 39, "keyframes": frames,
        "cond_video_latents": [*latents, reference], "refs": ["one"],
    }  # fmt: skip
    first, last = (Laid(H3).cut(whole, list(range(at, at + 7)), 12) for at in (0, 5))
    for found, wanted, kept in ((first, [0, 20], latents[:2]), (last, [3, 21], latents[1:])):
        assert [one["resolved_frame_index"] for one in found["keyframes"]] == wanted
        assert found["cond_video_latents"] == [*kept, reference] and found["frame_count"] == 22 and found["seed"] == 3
    between = Laid(H3).cut({**whole, "keyframes": frames[:1]}, list(range(5, 10)), 17)
    assert between["keyframes"] == [] and between["cond_video_latents"] == [*latents[1:], reference]
    assert frames[2]["resolved_frame_index"] == 38 and len(whole["cond_video_latents"]) == 4, "the clip's own stay"
    plain = {"layout": "of all", "refs": ["one"], "cond_video_latents": [reference]}
    assert Laid(H3).cut(plain, [5, 6], 12) is plain


def test_a_mask_of_sound_is_cut_where_the_pictures_are():
    """65 samples for 39 pictures: frames 5 to 11 are pictures 17 to 38, samples 28 to 64."""
    mask = torch.arange(65.0).view(1, 1, 1, 65)
    assert Heard(3, H3).cut(mask, list(range(5, 12)), 12).flatten().tolist() == list(range(28, 65))
    assert Heard(3, H3).cut(mask, [0, 1], 12).flatten().tolist() == list(range(8))
