"""Where the video's tokens are in what a block of a host's model gives out, and how a change is added to them.

Which families blocks can be added to, and between which of their blocks, is in the families' table (`Family.stream`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.reason import Reason
from ..core.site import SELF
from ..core.tokens import Span, Tokens, VideoSpan

PROMPT = ("text", "byt5", "vision")


def span_in_block(tokens: Tokens | None, length: int) -> VideoSpan | Reason:
    """Find the video among the tokens that a block gives out, or say why that cannot be told.

    Double-stream blocks give the prompt out apart from the video: then it stands without the prompt's spans.

    tokens: of the model call, None where nothing is known of them.
    length: how many tokens the block gives out.
    """
    if tokens is None:
        return Reason("nothing is known of this model's tokens")
    whole = tokens.video_span(SELF, length, length)
    if not isinstance(whole, Reason):
        return whole
    apart = Tokens(tokens.grid, _without_prompt(tokens.prefix), _without_prompt(tokens.suffix), tokens.unknown)
    video_span = apart.video_span(SELF, length, length)
    return whole if isinstance(video_span, Reason) else video_span


def _without_prompt(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return tuple(span for span in spans if span.kind not in PROMPT)


def add_change(x: Tensor, video_span: VideoSpan, groups: int, change) -> Tensor:
    """Return x with the change of its video tokens added; x itself is left as it is.

    x: (B, L, C), or (B, T, Y, X, C) where the video is alone.
    video_span: where the video is among the L tokens.
    groups: 0: each sample is a video of the span's grid. Otherwise the samples are the frames of `groups` videos, one
        after the other, and the grid is that of one frame.
    change: (tokens (b, N, C), grid) to (b, N, C).
    """
    tokens = x.flatten(1, -2)
    video, grid = tokens[:, video_span.start : video_span.stop], video_span.grid
    if groups:
        video = video.unflatten(0, (groups, -1))
        grid = (video.shape[1], *grid[1:])
        added = change(video.flatten(1, 2), grid).unflatten(1, (grid[0], -1)).flatten(0, 1)
    else:
        added = change(video, grid)
    parts = (
        tokens[:, : video_span.start],
        tokens[:, video_span.start : video_span.stop] + added,
        tokens[:, video_span.stop :],
    )
    return torch.cat(parts, dim=1).view(x.shape) if tokens.shape[1] > added.shape[1] else parts[1].view(x.shape)
