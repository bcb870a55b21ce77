"""What a row says of its tokens' shares, on numbers: whole frames of a part of them, spans of a part of a sequence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention.families.token_share import Frames, _cut_segments
from attention.parallel.spread import Spread, cut


def by_frame(x, told):
    """Something that works on each frame by itself: (B, frames * size, C) times (B, frames, C)."""
    return x * told.repeat_interleave(x.shape[1] // told.shape[1], 1)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 11), st.integers(1, 4), st.booleans())
def test_whole_frames_of_a_part_give_what_all_give(count, size, behind, ranks, uneven):
    video = count * size
    random = torch.Generator().manual_seed(count)
    x, told = torch.randn(2, video + behind, 3, generator=random), torch.randn(2, count, 3, generator=random)
    truth = torch.cat([by_frame(x[:, :video], told), x[:, video:]], 1)
    spread, found = Spread(cut(video + behind, [1.0 + uneven * rank for rank in range(ranks)])), []
    for rank in range(ranks):
        start = spread.start(rank)
        mine, frames = spread.part(x, rank), Frames(count, video, start, start + spread.sizes[rank])
        if frames.any:
            filled = frames.filled(mine)
            assert frames.tokens <= filled.shape[1] and frames.tokens % size == 0
            done = by_frame(filled[:, : frames.tokens], frames.cut(told, 1))
            mine = frames.emptied(torch.cat([done, filled[:, frames.tokens :]], 1))
        else:
            assert torch.equal(frames.emptied(mine), mine)
        found.append(mine)
    assert torch.equal(torch.cat(found, 1), truth)


def test_several_entries_for_each_frame():
    told = torch.arange(12).view(1, 12, 1)
    frames = Frames(4, 20, 7, 12)
    assert frames.cut(told, 1, 3).flatten().tolist() == [3, 4, 5, 6, 7, 8] and frames.tokens == 10


def test_what_is_no_number_of_frames_is_an_error():
    with pytest.raises(ValueError, match="21 tokens are not 4 frames"):
        Frames(4, 21, 0, 9)


@given(st.integers(1, 40), st.integers(0, 9), st.integers(1, 4), st.integers(0, 50), st.booleans())
def test_spans_of_a_sequence_are_cut_to_each_rank(tokens, before, ranks, at, counted):
    """Spans that count from the begin of the sequence, or from the first token that is shared out."""
    length = tokens + (before if counted else 0)
    at = min(at, length)
    rows = torch.cat([torch.zeros(at), torch.ones(length - at)])
    spread = Spread(cut(tokens, [1.0] * ranks), before)
    for rank in range(ranks):
        own = SimpleNamespace(spread=spread, rank=rank)
        spans = _cut_segments(own, [(0, at, 0), (at, None, 1)], before if counted else 0)
        mine = (
            spread.part(rows, rank, 0) if counted else rows.narrow(0, spread.start(rank) - before, spread.sizes[rank])
        )
        made = torch.full_like(mine, -1)
        for a, b, row in spans:
            made[a:b] = row
        assert torch.equal(made, mine)
