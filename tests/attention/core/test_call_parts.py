"""Which part of a self-attention a call is: told by its memory, by its length, or not at all."""

import pytest
import torch

from attention.core.reason import Reason
from attention.core.tensor_layout import first_query_of
from attention.core.tokens import BOTH, Span, Tokens, VideoSpan


@pytest.mark.parametrize("make", ["plain", "fused", "heads", "tokens first", "transposed", "batch of one"])
def test_memory_tells_where_a_slice_begins(make):
    batch, length, heads, dim = (1 if make == "batch of one" else 2), 30, 3, 8
    whole = {
        "plain": lambda: torch.randn(batch, length, heads * dim),
        "batch of one": lambda: torch.randn(batch, length, heads * dim),
        "fused": lambda: torch.randn(batch, length, 3 * heads * dim).chunk(3, -1)[1],
        "heads": lambda: torch.randn(batch, heads, length, dim),
        "tokens first": lambda: torch.randn(length, batch, heads * dim).transpose(0, 1),
        "transposed": lambda: torch.randn(batch, length, heads, dim).transpose(1, 2),
    }[make]()
    split, axis = whole.ndim == 4, whole.ndim - 2
    k = whole.new_zeros(whole.shape)
    for first, last in ((0, 10), (10, 20), (20, 30), (7, 30), (0, 1), (29, 30)):
        q = whole[:, :, first:last] if split else whole[:, first:last]
        told = ((first, length),) if make != "tokens first" else ((first, length), None)
        assert first_query_of(q, k, split) in told
        assert first_query_of(q.clone(memory_format=torch.contiguous_format), k, split) is None, (
            "a copy stands by itself"
        )
        # Keys with as many of another sequence behind theirs; with any other number of them nothing is told.
        count = last - first
        beside, odd = (torch.cat([k, k.narrow(axis, 0, n)], axis) for n in (count, count + 1))
        if count < length // 2:
            assert first_query_of(q, beside, split) in told and first_query_of(q, odd, split) is None
    assert first_query_of(whole, k, split) is None
    assert first_query_of(torch.randn(5, 6), torch.randn(5, 6), split) is None


def test_one_head_hides_no_batch():
    """One head's stride may be a token's: it is no larger axis around the tokens."""
    whole = torch.randn(2, 30, 1, 8).transpose(1, 2)
    assert whole.stride(1) == whole.stride(2)
    for first, last in ((0, 10), (7, 30)):
        assert first_query_of(whole[:, :, first:last], torch.zeros_like(whole), True) == (first, 30)


def test_a_part_by_its_length_alone():
    tokens = Tokens((2, 3, 4), prefix=(Span("text", 5),), suffix=(Span("guide", 7), Span("guide", 7)))
    told = [(5, (0, 5)), (24, (5, 29)), (29, (0, 29)), (31, (5, 36)), (14, (29, 43)), (38, (5, 43)), (36, (0, 36))]
    for length, part in told:
        video_span = tokens.video_span("self", length, 43)
        assert video_span.part == part and video_span.length == 43 and video_span.start == 5
    assert tokens.video_span("self", 7, 43) == "self-attention in parts (7 x 43 tokens), which of 2 is not known"
    assert tokens.video_span("self", 11, 43) == "self-attention in parts (11 x 43 tokens)"
    assert tokens.video_span("self", 44, 43) == "self-attention in parts (44 x 43 tokens)"
    assert tokens.video_span("self", 7, 43, (36, 43)).part == (36, 43)
    assert tokens.video_span("self", 11, 43, (3, 43)).part == (3, 14)
    assert tokens.video_span("self", 24, 43, (0, 43)).part == (0, 24), "what memory tells comes first"
    assert isinstance(tokens.video_span("self", 11, 43, (33, 43)), Reason)
    assert tokens.video_span("self", 24, 43, (0, 24)).part == (5, 29), "memory of another sequence tells nothing"
    assert tokens.video_span("self", 43, 43).part is None
    open_ended = Tokens((2, 3, 4), suffix=(Span("text"),))
    assert open_ended.video_span("self", 24, 40) == "self-attention in parts (24 x 40 tokens)", (
        "keys of another sequence?"
    )
    assert open_ended.video_span("self", 24, 40, (0, 40)).part == (0, 24)
    assert isinstance(tokens.video_span("spatial", 3, 12), Reason)


def test_a_part_whose_keys_have_another_sequence_behind_them():
    """Each frame attends by itself, and to a frame of a pose's: the video is where it was, the guests are behind it."""
    reference, pose = Span("reference", 12), Span("pose", 12)
    tokens = Tokens((3, 3, 4), prefix=(reference,), branch=(("self", "pose self", 36),), guests=(pose,))
    for frame in range(4):
        video_span = tokens.video_span("self", 12, 60 if frame else 48, (12 * frame, 48))
        assert video_span.part == (12 * frame, 12 * frame + 12) and video_span.start == 12
        assert video_span.length == (60 if frame else 48) and video_span.before == (reference,)
        assert video_span.after == ((pose,) if frame else ())
        assert video_span.cut == ((12 * (frame - 1), 12 * frame) if frame else (0, 0))
    for begin in (None, (12, 60), (12, 36)):
        assert tokens.video_span("self", 12, 60, begin) == "self-attention in parts (12 x 60 tokens)"
    assert isinstance(tokens.video_span("self", 12, 55, (12, 43)), Reason)
    assert isinstance(tokens.video_span("self", 12, 60, (40, 48)), Reason), "beyond its own sequence"
    assert tokens.video_span("self", 48, 48).part is None


def test_where_the_video_is_among_the_queries():
    def cut(first, last):
        video_span = VideoSpan((1, 1, 10), 5, BOTH, (Span("text", 5),), (Span("guide", 5),), part=(first, last))
        return (video_span.queries.start, video_span.queries.stop), video_span.cut

    assert cut(0, 20) == ((5, 15), (0, 10)) and cut(5, 15) == ((0, 10), (0, 10))
    assert cut(0, 7) == ((5, 7), (0, 2)) and cut(8, 20) == ((0, 7), (3, 10)) and cut(7, 9) == ((0, 2), (2, 4))
    for part in ((0, 5), (0, 3), (15, 20), (17, 18)):
        (a, b), _ = cut(*part)
        assert a == b
    video_span = VideoSpan((1, 1, 10), 5, BOTH, (Span("text", 5),))
    assert (video_span.queries, video_span.cut) == (slice(5, 15), (0, 10))
