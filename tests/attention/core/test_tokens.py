"""What the numbers of queries and keys tell of a call, against sequences laid out by hand."""

from __future__ import annotations

import pytest

from attention.core.site import AUDIO_SELF, AUDIO_VIDEO, CROSS, IMAGE, POSE_SELF, SELF, SPATIAL, TEMPORAL, TEXT
from attention.core.tokens import BOTH, Span, Tokens, VideoSpan

# 2 x 3 x 4 tokens of video behind 5 of a reference, guides of unknown number behind them.
LAID_OUT = Tokens((2, 3, 4), prefix=(Span("reference", 5),), suffix=(Span("guide"),))
BARE = Tokens((2, 3, 4))


@pytest.mark.parametrize(
    ("roles", "q_len", "kv_len", "role"),
    [
        ((CROSS, SELF), 24, 24, SELF),
        ((SELF, CROSS), 24, 77, CROSS),
        # Of the prompt's own tokens, and of the sound's: neither side is the video.
        ((SELF, TEXT), 77, 77, TEXT),
        ((SELF, CROSS, AUDIO_SELF), 10, 10, AUDIO_SELF),
        ((CROSS, AUDIO_VIDEO), 10, 24, AUDIO_VIDEO),
        ((AUDIO_VIDEO, TEXT), 77, 77, TEXT),
        ((AUDIO_VIDEO, SELF), 24, 24, SELF),
        # One frame of 12 tokens in each row of the batch; or the two frames of one place.
        ((TEMPORAL, SPATIAL), 12, 12, SPATIAL),
        ((SPATIAL, TEMPORAL), 2, 2, TEMPORAL),
        # Some of the queries, all of the keys.
        ((CROSS, SELF), 7, 24, SELF),
        # None fits: whether the lengths are equal decides, and the usual names where no role is left.
        ((SELF, CROSS), 9, 9, SELF),
        ((CROSS, TEXT), 9, 10, CROSS),
        ((CROSS,), 9, 9, SELF),
        ((SELF,), 9, 10, CROSS),
        ((), 9, 9, SELF),
    ],
)
def test_the_likeliest_role_is_the_first_that_the_lengths_fit(roles, q_len, kv_len, role):
    assert BARE.likely(roles, q_len, kv_len) == role


def test_without_a_grid_equal_lengths_decide():
    unknown = Tokens(None, unknown="no video latent")
    assert unknown.likely((CROSS, SELF), 24, 24) == SELF
    assert unknown.likely((SELF, CROSS), 24, 77) == CROSS


def test_kinds_of_keys_are_told_by_their_number():
    tokens = Tokens((2, 3, 4), keys=((IMAGE, 257),), branch=((SELF, POSE_SELF, 10),))
    assert tokens.role(CROSS, 24, 257) == IMAGE and tokens.role(CROSS, 24, 512) == CROSS
    assert tokens.role(SELF, 24, 257) == SELF, "only what attends to a prompt has kinds of keys"
    assert tokens.role(SELF, 10, 10) == POSE_SELF and tokens.role(SELF, 24, 24) == SELF
    assert tokens.role(SELF, 10, 24) == SELF, "the other sequence attends to itself"


@pytest.mark.parametrize(
    ("part", "queries", "cut"),
    [
        (None, (5, 29), (0, 24)),
        ((0, 29), (5, 29), (0, 24)),
        ((0, 12), (5, 12), (0, 7)),
        ((10, 20), (0, 10), (5, 15)),
        ((20, 32), (0, 9), (15, 24)),
    ],
)
def test_which_of_a_call_s_queries_are_the_video_s(part, queries, cut):
    """5 tokens before, 24 of the video, 3 behind it."""
    span = VideoSpan((2, 3, 4), 5, BOTH, (Span("reference", 5),), (Span("guide", 3),), part)
    assert (span.stop, span.length) == (29, 32)
    assert (span.queries.start, span.queries.stop) == queries and span.cut == cut


@pytest.mark.parametrize("part", [(0, 5), (2, 4), (29, 32)])
def test_a_part_without_video_has_no_query_of_it(part):
    span = VideoSpan((2, 3, 4), 5, BOTH, (Span("reference", 5),), (Span("guide", 3),), part)
    assert len(range(32)[span.queries]) == 0


def test_what_is_left_is_the_guides():
    span = LAID_OUT.video_span(SELF, 32, 32)
    assert (span.start, span.stop, span.length) == (5, 29, 32) and span.after == (Span("guide", 3),)
