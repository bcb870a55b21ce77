"""Temporal blocks that are added behind the blocks of a model that is left as it is (AnimateDiff, arXiv:2307.04725).

Each is temporal attention and a feed-forward of its own. Their last layers start at zero, so an untrained block
changes nothing. Rotary attention sees distances only, so the frame's number is added to what is attended to.

Shapes: B batch, T/Y/X token grid, N = T*Y*X tokens in raster order, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..backends import registry
from ..core.tokens import Grid
from .axes import Attend, Dims, TemporalAttention, check_grid
from .rope import timestep_features

IN_GRID, IN_BATCH = "grid", "batch"


@dataclass(frozen=True)
class TemporalConfig:
    """What a file of temporal blocks says about itself. ValueError for what cannot be.

    family: the families' name of the model it was trained with.
    channels: C of that model's tokens.
    heads: of the temporal attention.
    head_dim: channels of one of them.
    hidden: channels inside the feed-forward.
    blocks: behind which of the model's blocks there is one, counted from 0.
    frames: "grid": the frames are the first axis of the model's token grid. "batch": an image model gets the frames
        as its batch.
    """

    family: str
    channels: int
    heads: int
    head_dim: int
    hidden: int
    blocks: tuple[int, ...]
    frames: str = IN_GRID

    def __post_init__(self):
        if self.frames not in (IN_GRID, IN_BATCH):
            raise ValueError(f"frames is {self.frames!r}, not {IN_GRID!r} or {IN_BATCH!r}.")
        if not self.blocks or min(self.blocks) < 0 or len(set(self.blocks)) < len(self.blocks):
            raise ValueError(f"blocks is {str(list(self.blocks))[:60]}, not a list of different block numbers.")
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}, not a number of channels.")

    @property
    def dims(self) -> Dims:
        """Return the sizes of the temporal attention: all channel pairs turn with the frame."""
        return Dims(self.channels, self.heads, self.head_dim, pairs=(self.head_dim // 2, 0, 0))


class FeedForward(torch.nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, channels: int, hidden: int, ops=torch.nn):
        super().__init__()
        self.inward = ops.Linear(channels, hidden)
        self.outward = ops.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, C) of x: (B, N, C), each token by itself."""
        return self.outward(F.gelu(self.inward(x), approximate="tanh"))


class TemporalBlock(torch.nn.Module):
    """Pre-norm temporal attention and feed-forward; returns what is to be added to x."""

    def __init__(self, config: TemporalConfig, ops=torch.nn):
        super().__init__()
        self.attention_norm = ops.RMSNorm(config.channels, eps=1e-6)
        self.attention = TemporalAttention(config.dims, ops)
        self.forward_norm = ops.RMSNorm(config.channels, eps=1e-6)
        self.feed_forward = FeedForward(config.channels, config.hidden, ops)
        for last in (self.attention.heads.to_out, self.feed_forward.outward):
            # ComfyUI's layers may have no weights before they are loaded.
            if last.weight is not None:
                torch.nn.init.zeros_(last.weight)
                torch.nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, grid: Grid, attend: Attend = registry.attend) -> Tensor:
        """Return the change (B, N, C) of x: (B, N, C); zeros when untrained."""
        check_grid(x, grid)
        numbers = number_frames(grid[0], x.shape[-1], x.device).to(x.dtype)
        numbered = self.attention_norm(x).unflatten(1, (grid[0], -1)) + numbers[:, None]
        change = self.attention(numbered.flatten(1, 2), grid, attend=attend)
        return change + self.feed_forward(self.forward_norm(x + change))


def number_frames(frames: int, channels: int, device=None) -> Tensor:
    """Return cosines and sines (frames, channels) of each frame's number, section 3.5 of arXiv:1706.03762."""
    codes = timestep_features(torch.arange(frames, device=device), channels - channels % 2)
    return F.pad(codes, (0, channels % 2))


class TemporalBlocks(torch.nn.Module):
    """All temporal blocks of one file, keyed by the number of the model's block that they stand behind."""

    def __init__(self, config: TemporalConfig, ops=torch.nn):
        super().__init__()
        self.config = config
        self.blocks = torch.nn.ModuleDict({str(index): TemporalBlock(config, ops) for index in config.blocks})

    def forward(self, index: int, x: Tensor, grid: Grid, attend: Attend = registry.attend) -> Tensor:
        """Return the change (B, N, C) behind the model's block `index`.

        x: (B, N, C).
        """
        return self.blocks[str(index)](x, grid, attend)
