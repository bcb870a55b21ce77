"""What an engine is: it runs a pattern over the video's tokens, every other token being a key of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch

from ..call import Call
from ..grid import CUBE, RASTER, order
from ..tokens import Grid, Place

# Gathered keys, values and queries held at once: for a CPU's thread, whose cache they should fit, and for a GPU.
THREAD_BYTES = 4 << 20
GPU_BYTES = 256 << 20


@dataclass(frozen=True)
class Task:
    """One pattern at one place. order, tile: how the video's tokens stand in the call; see grid.order.

    compile_on_cpu: whether an engine may compile for the CPU, which takes a C++ compiler and some seconds.
    """

    pattern: object
    place: Place
    order: str = RASTER
    tile: Grid = CUBE
    compile_on_cpu: bool = False

    @property
    def grid(self) -> Grid:
        return self.place.grid

    @property
    def tokens(self) -> int:
        return prod(self.grid)

    @property
    def sinks(self) -> int:
        return sum(span.length for span in (*self.place.before, *self.place.after))

    def positions(self, raster: torch.Tensor) -> torch.Tensor:
        """Where in the call's order raster indices stand, counted from the first video token."""
        return raster if self.order == RASTER else order(self.grid, self.order, self.tile)[1][raster]


@dataclass(frozen=True)
class Engine:
    """One row of the table.

    refuses(task, call): why it cannot run the task, in a few words, or None. May be slow: asked once.
    plan(task, device, dtype): index tensors and masks for `run`; made once.
    run(video, sinks, scale, plan): video is (q, k, v), each (B, H, N, D), and sinks is (k, v), each (B, H, S, D), S
    may be 0; returns (B, H, N, D). Changes none of its inputs.
    auto: whether `auto` may take it before Video Attention Benchmark has seen it right. chooses: it chooses blocks from
    q and k, and run has one more argument, hold: hold(make) gives make(), or what it gave in an earlier step; see
    held.py. grouped: run takes keys and values of fewer heads than q, each head's for as many of q in a row.
    """

    name: str
    summary: str
    refuses: Callable[[Task, Call], str | None]
    plan: Callable[[Task, torch.device, torch.dtype], object] = field(repr=False)
    run: Callable[..., torch.Tensor] = field(repr=False)
    auto: bool = True
    chooses: bool = False
    grouped: bool = False


def scratch_bytes(device: torch.device) -> int:
    """The most that an engine gathers at once, unless one box of queries for one head needs more.

    Besides it there are linear copies of q, k, v and the output alone, and never a tensor of L x L.
    """
    return THREAD_BYTES * torch.get_num_threads() if device.type == "cpu" else GPU_BYTES


def joined(keys: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """keys: (..., K, D) followed by sinks: (..., S, D), broadcast over the leading axes."""
    return torch.cat([keys, sinks.expand(*keys.shape[:-2], -1, -1)], dim=-2) if sinks.shape[-2] else keys
