"""Attention with weights along the axes of a video: inside frames, over time, both at once, both in turn, to a prompt.

Every block is multi-head attention (arXiv:1706.03762) with RMS-normed queries and keys (arXiv:2302.05442) and axial
rotary positions (arXiv:2104.09864), without residual: what it returns is what is to be added.

Shapes: B batch, T/Y/X token grid, N = T*Y*X tokens in raster order, C channels, S prompt tokens, H heads, D head dim.
`mask` says which tokens may be seen: (B, N) or (B, S), bool; every query must have one. `attend` runs the attention
itself: (q, k, v, mask) of (B, H, L, D) and (B, 1, 1, L) to (B, H, L, D); by default the best of the pack's backends.
`ops` has the layers: torch.nn, or a namespace of ComfyUI's comfy.ops, whose weights are to be loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..backends import registry
from ..core.tokens import Grid
from .rope import axial_tables, rotate

Attend = Callable[..., Tensor]


@dataclass(frozen=True)
class Dims:
    """Sizes of one attention. ValueError for sizes that cannot be.

    channels: C of the tokens.
    heads: H.
    head_dim: D.
    pairs: how many of a head's D/2 channel pairs turn with frame, row and column.
    source: channels of what is attended to; 0: as many as `channels`.
    base: of the rotary ladder.
    """

    channels: int
    heads: int
    head_dim: int
    pairs: tuple[int, int, int] = (0, 0, 0)
    source: int = 0
    base: float = 10000.0

    def __post_init__(self):
        if min(self.channels, self.heads, self.head_dim) < 1 or self.head_dim % 2:
            raise ValueError(f"{self}: channels and heads must be positive, the head dim positive and even.")
        if min(self.pairs) < 0 or 2 * sum(self.pairs) > self.head_dim:
            raise ValueError(f"{self}: a head of {self.head_dim} channels has {self.head_dim // 2} pairs to turn.")


class MultiHead(torch.nn.Module):
    """Project, normalise, turn, attend, project: section 3.2.2 of arXiv:1706.03762."""

    def __init__(self, dims: Dims, ops=torch.nn):
        super().__init__()
        self.dims = dims
        width, source = dims.heads * dims.head_dim, dims.source or dims.channels
        self.q_norm = ops.RMSNorm(dims.head_dim, eps=1e-6)
        self.k_norm = ops.RMSNorm(dims.head_dim, eps=1e-6)
        self.to_q = ops.Linear(dims.channels, width, bias=False)
        self.to_k = ops.Linear(source, width, bias=False)
        self.to_v = ops.Linear(source, width, bias=False)
        self.to_out = ops.Linear(width, dims.channels)

    def forward(self, x: Tensor, source: Tensor, grid: Grid | None, mask: Tensor | None, attend: Attend) -> Tensor:
        """Attend from x to `source`; returns (B, L, C).

        x: (B, L, C).
        source: (B, S, Cs).
        mask: (B, S) or None.
        grid: of L = S tokens that turn with their place; None: nothing turns.
        """
        q, k, v = self.to_q(x), self.to_k(source), self.to_v(source)
        q, k, v = (rearrange(t, "b l (h d) -> b l h d", h=self.dims.heads) for t in (q, k, v))
        q, k = self.q_norm(q), self.k_norm(k)
        if grid is not None:
            tables = axial_tables(grid, self.dims.pairs, self.dims.base, self.dims.head_dim, x.device)
            q, k = rotate(q, *tables), rotate(k, *tables)
        mask = None if mask is None else mask[:, None, None]
        out = attend(*(rearrange(t, "b l h d -> b h l d") for t in (q, k, v)), mask)
        return self.to_out(rearrange(out, "b h l d -> b l (h d)"))


def into_frames(x: Tensor, grid: Grid) -> Tensor:
    """Cut (B, N, ...) into frames, each alone: returns (B*T, Y*X, ...)."""
    return rearrange(x, "b (t place) ... -> (b t) place ...", t=grid[0])


def out_of_frames(x: Tensor, grid: Grid) -> Tensor:
    """Undo `into_frames`."""
    return rearrange(x, "(b t) place ... -> b (t place) ...", t=grid[0])


def into_tracks(x: Tensor, grid: Grid) -> Tensor:
    """Cut (B, N, ...) into places, each alone over time: returns (B*Y*X, T, ...)."""
    return rearrange(x, "b (t place) ... -> (b place) t ...", t=grid[0])


def out_of_tracks(x: Tensor, grid: Grid) -> Tensor:
    """Undo `into_tracks`."""
    return rearrange(x, "(b place) t ... -> b (t place) ...", place=grid[1] * grid[2])


class SpatialAttention(torch.nn.Module):
    """Every token attends to the tokens of its frame."""

    def __init__(self, dims: Dims, ops=torch.nn):
        super().__init__()
        self.heads = MultiHead(dims, ops)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, attend: Attend = registry.attend) -> Tensor:
        """Attend within x; returns (B, N, C).

        x: (B, N, C).
        mask: (B, N) or None.
        """
        check_grid(x, grid)
        x, mask = into_frames(x, grid), None if mask is None else into_frames(mask, grid)
        return out_of_frames(self.heads(x, x, (1, *grid[1:]), mask, attend), grid)


class TemporalAttention(torch.nn.Module):
    """Every token attends to the tokens at its place in all frames."""

    def __init__(self, dims: Dims, ops=torch.nn):
        super().__init__()
        self.heads = MultiHead(dims, ops)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, attend: Attend = registry.attend) -> Tensor:
        """Attend within x; returns (B, N, C).

        x: (B, N, C).
        mask: (B, N) or None.
        """
        check_grid(x, grid)
        x, mask = into_tracks(x, grid), None if mask is None else into_tracks(mask, grid)
        return out_of_tracks(self.heads(x, x, (grid[0], 1, 1), mask, attend), grid)


class SpatioTemporalAttention(torch.nn.Module):
    """Every token attends to all tokens."""

    def __init__(self, dims: Dims, ops=torch.nn):
        super().__init__()
        self.heads = MultiHead(dims, ops)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, attend: Attend = registry.attend) -> Tensor:
        """Attend within x; returns (B, N, C).

        x: (B, N, C).
        mask: (B, N) or None.
        """
        check_grid(x, grid)
        return self.heads(x, x, grid, mask, attend)


class FactorisedAttention(torch.nn.Module):
    """Spatial, then temporal attention over what the spatial one added; returns the sum of both changes.

    The factorised self-attention of ViViT, arXiv:2103.15691, section 3.3, model 3. Each half has its own `dims`.
    """

    def __init__(self, spatial: Dims, temporal: Dims, ops=torch.nn):
        super().__init__()
        if spatial.channels != temporal.channels:
            raise ValueError(f"spatial has {spatial.channels} channels and temporal {temporal.channels}: not the same.")
        self.spatial = SpatialAttention(spatial, ops)
        self.temporal = TemporalAttention(temporal, ops)

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None, attend: Attend = registry.attend) -> Tensor:
        """Attend within x; returns (B, N, C).

        x: (B, N, C).
        mask: (B, N) or None.
        """
        inside = self.spatial(x, grid, mask, attend)
        return inside + self.temporal(x + inside, grid, mask, attend)


class CrossAttention(torch.nn.Module):
    """Every token attends to the tokens of a prompt of dims.source channels. Nothing turns: `pairs` must be zeros."""

    def __init__(self, dims: Dims, ops=torch.nn):
        super().__init__()
        if any(dims.pairs):
            raise ValueError(f"{dims}: cross-attention has no common axes, so no pair can turn.")
        self.heads = MultiHead(dims, ops)

    def forward(
        self, x: Tensor, prompt: Tensor, mask: Tensor | None = None, attend: Attend = registry.attend
    ) -> Tensor:
        """Attend from x to the prompt; returns (B, N, C).

        x: (B, N, C).
        prompt: (B, S, source).
        mask: (B, S) or None.
        """
        return self.heads(x, prompt, None, mask, attend)


def check_grid(x: Tensor, grid: Grid) -> None:
    """Raise ValueError unless the tokens of x: (B, N, C) fill the grid."""
    if x.ndim != 3 or x.shape[1] != math.prod(grid):
        raise ValueError(f"x of {tuple(x.shape)} is not (batch, tokens, channels) of the grid {tuple(grid)}.")
