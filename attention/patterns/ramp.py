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
# A value is planned, measured and compiled by itself, so there are few: one for each so many percent, and no more.
APART, MOST, STAIRS = 5.0, 8, 3


@dataclass(frozen=True)
class Ramp:
    """Says how a pattern's percentage changes from the begin of the covered steps to their end.

    end: the percentage at the end; at the begin it is the pattern's own.
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

    def percentages(self, begin: float) -> tuple[float, ...]:
        """List the percentages that the ramp goes through, each for an equal stretch of the covered steps.

        begin: the pattern's own percentage.
        """
        if self.shape == CONSTANT or begin == self.end:
            return (begin,)
        fine = min(MOST, 1 + ceil(abs(begin - self.end) / APART - 1e-9))
        count = min(STAIRS, fine) if self.shape == STEPS else fine
        parts = (CURVES[self.shape](step / (count - 1)) for step in range(1, count - 1))
        return (begin, *(round(begin + (self.end - begin) * part) for part in parts), self.end)

    def patterns(self, pattern) -> tuple:
        """List the patterns that `pattern` goes through, each for an equal stretch of the covered steps.

        pattern: one with an `amount`. Its groups of heads keep their share of it.
        """
        begin = getattr(pattern, pattern.amount)
        return tuple(_with(pattern, percentage, percentage / begin) for percentage in self.percentages(begin))


def _with(pattern, percentage: float, share: float):
    by_heads = tuple(min(percentage, number * share) for number in pattern.by_heads)
    return replace(pattern, **{pattern.amount: percentage}, by_heads=by_heads)
