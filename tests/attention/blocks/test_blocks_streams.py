"""Where the video's tokens are in a block's output, and that no other token changes."""

from __future__ import annotations

import math

import torch

from attention.blocks import TemporalBlock, TemporalConfig, streams
from attention.core.tokens import BOTH, Span, Tokens, VideoSpan

GRID = (3, 2, 4)
N = math.prod(GRID)
FRAME = torch.arange(N) // 8


def tokens(batch=2, count=N):
    return torch.randn(batch, count, 20, generator=torch.Generator().manual_seed(1))


def later_frames(video, grid):
    """A change that tells what it was given: each token's frame number, from 1 on."""
    return video * 0 + (torch.arange(math.prod(grid)) // (grid[1] * grid[2]) + 1.0)[:, None]


def test_only_the_videos_tokens_change():
    x = tokens(count=N + 5)
    video_span = VideoSpan(GRID, 2, BOTH, (Span("text", 2),), (Span("reference", 3),))
    change = streams.add_change(x, video_span, 0, later_frames) - x
    assert not change[:, :2].any() and not change[:, 2 + N :].any()
    torch.testing.assert_close(change[:, 2 : 2 + N], (FRAME + 1.0)[:, None].expand(2, N, 20))


def test_an_output_with_axes_keeps_them():
    x = tokens().unflatten(1, GRID)
    out = streams.add_change(x, VideoSpan(GRID, 0, BOTH), 0, later_frames)
    torch.testing.assert_close(out - x, (FRAME + 1.0).view(1, *GRID, 1).expand_as(x))


def test_frames_in_the_batch_are_one_video_for_each_prompt():
    """Six samples, two prompts: the first three are the frames of one video."""
    x = tokens(batch=6, count=9)
    video_span = VideoSpan((1, 2, 4), 1, BOTH, (Span("text", 1),))
    out = streams.add_change(x, video_span, 2, later_frames)
    assert torch.equal(out[:, :1], x[:, :1])
    wanted = torch.tensor([1.0, 2, 3, 1, 2, 3])[:, None, None].expand(6, 8, 20)
    torch.testing.assert_close(out[:, 1:] - x[:, 1:], wanted)
    block = TemporalBlock(TemporalConfig("LTXV", 20, 2, 16, 24, (0,)))
    torch.nn.init.normal_(block.attention.heads.to_out.weight, generator=torch.Generator().manual_seed(0))
    video = x[3:, 1:].flatten(0, 1)[None]
    got = streams.add_change(x, video_span, 2, block)[3:, 1:] - x[3:, 1:]
    torch.testing.assert_close(got.flatten(0, 1)[None], block(video, GRID), rtol=1e-4, atol=1e-5)


def test_the_video_is_found_with_and_without_the_prompt():
    layout = Tokens(GRID, (Span("text", 7),), (Span("reference", 3),))
    assert streams.span_in_block(layout, N + 10).start == 7
    assert streams.span_in_block(layout, N + 3).start == 0
    assert "do not fit the grid 3 x 2 x 4" in streams.span_in_block(layout, N + 4)
    assert "nothing is known" in streams.span_in_block(None, N)
