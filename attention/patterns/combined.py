"""Unions and intersections of patterns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import ClassVar

import torch

from ..core.grid import Box
from ..core.tokens import Grid
from .spec import is_fixed
from .tiles import count_pairs


@dataclass(frozen=True)
class AnyOf:
    """A query sees what any of the parts lets it see.

    grid: (T, Y, X).
    parts: Relations over it.
    """

    grid: Grid
    parts: tuple

    @property
    def tile_sizes(self) -> tuple[Grid, ...]:
        return tuple(dict.fromkeys(size for part in self.parts for size in part.tile_sizes))

    @property
    def is_dense(self) -> bool:
        return any(part.is_dense for part in self.parts)

    def mask_key(self, box: Box) -> tuple:
        own = tuple(start for start, _ in box)
        return tuple(
            (part.mask_key(box), tuple(tuple((a - at, b - at) for at, (a, b) in zip(own, seen)) for seen in key_boxes))
            for part in self.parts
            for key_boxes, _ in [part.key_boxes(box)]
        )

    def to(self, device) -> AnyOf:
        return replace(self, parts=tuple(part.to(device) for part in self.parts))

    def mask_mod(self, b, h, q_idx, kv_idx):
        seen, *rest = (part.mask_mod(b, h, q_idx, kv_idx) for part in self.parts)
        for other in rest:
            seen = seen | other
        return seen

    def mask_within(self, box: Box, keys: torch.Tensor) -> torch.Tensor:
        seen, *rest = (part.mask_within(box, keys) for part in self.parts)
        for other in rest:
            seen = seen | other
        return seen

    def leaves(self) -> tuple:
        """List the relations that are no combination, in the order in which `combine` takes their answers."""
        return tuple(leaf for part in self.parts for leaf in part.leaves())

    def combine(self, seen: list) -> bool:
        """Tell whether a pair is seen, by whether each of `leaves` lets it be seen: taken from the front of `seen`."""
        return any([part.combine(seen) for part in self.parts])  # noqa: C419 each takes its own from `seen`

    def key_boxes(self, box: Box) -> tuple[tuple[Box, ...], bool]:
        reaches = [part.key_boxes(box) for part in self.parts]
        found = tuple(dict.fromkeys(seen for boxes, _ in reaches for seen in boxes))
        return found, all(full for _, full in reaches)

    @cached_property
    def density(self) -> float:
        return count_pairs(self) / prod(self.grid) ** 2


@dataclass(frozen=True)
class AllOf(AnyOf):
    """A query sees what all of the parts let it see.

    grid: as of AnyOf.
    parts: as of AnyOf.
    """

    @property
    def is_dense(self) -> bool:
        return all(part.is_dense for part in self.parts)

    def mask_mod(self, b, h, q_idx, kv_idx):
        seen, *rest = (part.mask_mod(b, h, q_idx, kv_idx) for part in self.parts)
        for other in rest:
            seen = seen & other
        return seen

    def mask_within(self, box: Box, keys: torch.Tensor) -> torch.Tensor:
        seen, *rest = (part.mask_within(box, keys) for part in self.parts)
        for other in rest:
            seen = seen & other
        return seen

    def combine(self, seen: list) -> bool:
        return all([part.combine(seen) for part in self.parts])  # noqa: C419 as above

    def key_boxes(self, box: Box) -> tuple[tuple[Box, ...], bool]:
        reaches = [part.key_boxes(box) for part in self.parts]
        found = dict.fromkeys(meet(boxes) for boxes in product(*(boxes for boxes, _ in reaches)))
        return tuple(seen for seen in found if seen), all(full for _, full in reaches)


def meet(boxes) -> Box | None:
    """Find what all the boxes share; None: nothing."""
    spans = tuple((max(a for a, _ in spans), min(b for _, b in spans)) for spans in zip(*boxes))
    return spans if all(a < b for a, b in spans) else None


@dataclass(frozen=True)
class Union:
    """Every token sees what at least one of the patterns lets it see.

    parts: FixedPatterns.
    """

    name: ClassVar[str] = "union"

    parts: tuple

    def __post_init__(self):
        refuse(self)

    def sizes_in_tokens(self, grid: Grid) -> str:
        return sizes_in_tokens(self, grid)

    def on(self, grid: Grid) -> AnyOf:
        return AnyOf(grid, tuple(part.on(grid) for part in self.parts))


@dataclass(frozen=True)
class Intersection:
    """Every token sees what all of the patterns let it see: itself at least.

    parts: FixedPatterns.
    """

    name: ClassVar[str] = "intersection"

    parts: tuple

    def __post_init__(self):
        refuse(self)

    def sizes_in_tokens(self, grid: Grid) -> str:
        return sizes_in_tokens(self, grid)

    def on(self, grid: Grid) -> AllOf:
        return AllOf(grid, tuple(part.on(grid) for part in self.parts))


def sizes_in_tokens(pattern, grid: Grid) -> str:
    """Say in words what the sizes of the parts became, those that have any."""
    told = ((part.name, part.sizes_in_tokens(grid)) for part in pattern.parts if hasattr(part, "sizes_in_tokens"))
    return "; ".join(f"{name}: {words}" for name, words in told if words)


def refuse(pattern) -> None:
    """Raise ValueError for no parts, and for parts whose mask follows from the tensors or that have no one mask."""
    several = ("in_block", "turns")
    wrong = [p.name for p in pattern.parts if not is_fixed(p) or any(hasattr(p, name) for name in several)]
    if wrong or not pattern.parts:
        raise ValueError(f"{pattern.name}: takes patterns with a fixed mask, got {', '.join(wrong) or 'none'}.")
