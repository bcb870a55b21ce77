"""What a model family tells: which module is which role, and the token grid of an input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Family:
    """One row of the table.

    models: class names of the diffusion model (strings, so that nothing of the host is imported).
    modules: yields (attention module, role, block index) of a loaded model.
    grid: (T, Y, X) in tokens from the model's first argument, or None when it cannot be known.
    """

    name: str
    models: tuple[str, ...]
    modules: Callable[[torch.nn.Module], Iterator[tuple[torch.nn.Module, str, int]]]
    grid: Callable[[object], Grid | None]
