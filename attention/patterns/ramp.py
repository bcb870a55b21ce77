"""How much a pattern keeps over the steps that it covers: early steps settle what moves, late ones can do with less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, cos, pi

CONSTANT, LINEAR, COSINE, STEPS = "constant", "linear", "cosine", "steps"
# Part of the way, 0 to 1 -> part of the change.
CURVES: dict[str, Callable[[float], float]] = {
    LINEAR: lambda part: part,
    COSINE: lambda part: (1 - cos(pi * part)) / 2,
    STEPS: lambda part: part,
}
SHAPES = (CONSTANT, *CURVES)
# A value is planned, measured and compiled by itself, so there are few: one for each so much of it, and no more.
APART, MOST, STAIRS = 5.0, 8, 3
# Of a threshold, which is no percentage: how near two values are, and the digits behind the point.
THRESHOLD_APART, DIGITS = 0.25, 2


@dataclass(frozen=True)
class Ramp:
    """Says how a pattern's percentage changes from the begin of the covered steps to their end.

    end: the percentage, or the threshold, at the end; at the begin it is the pattern's own.
    shape: one of SHAPES. LINEAR and COSINE go in equal stretches of the noise schedule, at most MOST of them; STEPS has
        STAIRS stretches; CONSTANT stays at the pattern's own.
    """

    end: float
    shape: str = LINEAR

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"ramp: {self.shape!r} is none of {', '.join(SHAPES)}.")
        if not 0.1 <= self.end <= 100:
            raise ValueError(f"keep_end: {self.end:g} must lie between 0.1 and 100 percent.")

    def percentages(self, begin: float, apart: float = APART, digits: int = 0) -> tuple[float, ...]:
        """List the percentages that the ramp goes through, each for an equal stretch of the covered steps.

        begin: the pattern's own percentage.
        apart: how far two of them are apart at least.
        digits: behind the point, of those in between.
        """
        if self.shape == CONSTANT or begin == self.end:
            return (begin,)
        fine = min(MOST, 1 + ceil(abs(begin - self.end) / apart - 1e-9))
        count = min(STAIRS, fine) if self.shape == STEPS else fine
        parts = (CURVES[self.shape](step / (count - 1)) for step in range(1, count - 1))
        between = (round(begin + (self.end - begin) * part, digits or None) for part in parts)
        return (begin, *between, self.end)

    def patterns(self, pattern) -> tuple:
        """List the patterns that `pattern` goes through, each for an equal stretch of the covered steps.

        pattern: one with a `ramped` number. Its groups of heads keep their share of it.
        """
        name = ramped(pattern)
        begin, percent = getattr(pattern, name), name == getattr(pattern, "amount", None)
        values = self.percentages(begin) if percent else self.percentages(begin, THRESHOLD_APART, DIGITS)
        return tuple(_with(pattern, name, value) for value in values)


def ramped(pattern) -> str | None:
    """Name the field of a pattern that may change over the steps: its percentage or threshold; None for no such."""
    return getattr(pattern, "amount", None) or getattr(pattern, "threshold", None)


def in_words(pattern) -> str:
    """Write down the number that may change over the steps: `20 %`, `tau 1.5`."""
    name = ramped(pattern)
    value = f"{getattr(pattern, name):g}"
    return f"{value} %" if name == getattr(pattern, "amount", None) else f"{name} {value}"


def _with(pattern, name: str, value: float):
    if not pattern.by_heads:
        return replace(pattern, **{name: value})
    share = value / getattr(pattern, name)
    return replace(pattern, **{name: value}, by_heads=tuple(min(value, number * share) for number in pattern.by_heads))
