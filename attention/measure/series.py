"""One figure for each frame, summed up and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One measure of a clip over its frames.

    name: for the reader.
    unit: for the reader.
    values: one figure for each frame, NaN where there is none.
    lowest_is_worst: which end is the bad one.
    overall: the figure of the whole clip, where that is not the mean.
    marked: what the end that `worst` gives is called.
    beside: the same figures of a reference, to be drawn behind.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    lowest_is_worst: bool = False
    overall: float | None = None
    marked: str = "worst"
    beside: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Return `overall`, or the mean of the values there are; NaN if there are none."""
        known = [value for value in self.values if not math.isnan(value)]
        if self.overall is not None:
            return self.overall
        return math.fsum(known) / len(known) if known else math.nan

    @property
    def worst(self) -> tuple[int, float] | None:
        """Return (frame, value) of the first worst value, None if there are no values."""
        known = [(frame, value) for frame, value in enumerate(self.values) if not math.isnan(value)]
        choose = min if self.lowest_is_worst else max
        return choose(known, key=lambda pair: pair[1]) if known else None


def number(value: float) -> str:
    """Write a number with four digits, or what there is instead of one."""
    return "not measured" if math.isnan(value) else f"{value:.4g}"


def to_table(series: Sequence[Series]) -> str:
    """Write aligned columns: name, figure of the clip, worst frame, unit."""
    rows = [("measure", "clip", "worst frame", "unit")]
    for one in series:
        worst = f"{number(one.worst[1])} at {one.worst[0]}" if one.worst else "-"
        rows.append((one.name, number(one.mean), worst, one.unit))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)
