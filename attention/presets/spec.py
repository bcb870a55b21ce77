"""What a preset is: for one family of models and one level, what is done to its attention and steps, and why."""

from __future__ import annotations

from dataclasses import dataclass

from ..backends.registry import AUTO
from ..forecast import ForecastSettings
from ..patterns.ramp import Ramp

NOT_ON_A_GPU = "not measured on a GPU by us"
# What of a preset has a source: those cells that it fills.
KERNEL, PATTERN, DENSITY, RANGE, DENSE, FORECAST = CELLS = (
    "kernel", "pattern", "density", "range", "dense", "forecast",
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """Names how far a preset goes.

    name: as users and saved workflows know it.
    summary: what it promises, a sentence.
    """

    name: str
    summary: str


@dataclass(frozen=True)
class Source:
    """Says where a value comes from.

    text: what was found there, with its figures.
    where: a link, or the command that measures it.
    measured: who measured it on what; NOT_ON_A_GPU where nobody of this project has.
    """

    text: str
    where: str
    measured: str = NOT_ON_A_GPU


@dataclass(frozen=True)
class KernelChoice:
    """Says which kernels may run attention that is not shaped.

    max_error: relative L2 that a kernel may be off from attention in float32, measured on the model's own q, k, v.
    backend: one of the backends, AUTO for the fastest within max_error.
    """

    max_error: float
    backend: str = AUTO


@dataclass(frozen=True)
class PatternChoice:
    """Says by which pattern the video's self-attention runs, and where.

    pattern: one of patterns.TABLE.
    ramp: how its percentage changes from start to end; None: not at all.
    start: of the sampling covered, 0 to 1 of the noise schedule.
    end: of the sampling covered, 0 to 1 of the noise schedule.
    dense_first_steps: at least so many of the first steps stay dense.
    dense_last_steps: at least so many of the last steps stay dense.
    dense_first_blocks: so many of the model's first blocks stay dense.
    dense_last_blocks: so many of its last blocks stay dense.
    min_tokens: fewer video tokens than these stay dense.
    """

    pattern: object
    ramp: Ramp | None = None
    start: float = 0.0
    end: float = 1.0
    dense_first_steps: int = 0
    dense_last_steps: int = 0
    dense_first_blocks: int = 0
    dense_last_blocks: int = 0
    min_tokens: int = 12288

    @property
    def percentages(self) -> tuple[float, ...]:
        """List what the pattern keeps, in percent, from the first covered step to the last."""
        own = getattr(self.pattern, self.pattern.amount)
        return (own,) if self.ramp is None else self.ramp.percentages(own)


@dataclass(frozen=True)
class Preset:
    """One row of the table.

    models: names of the models it is for, a family's or a release's; empty: those that no other row is for.
    level: name of its Level.
    kernel: which kernels may run.
    pattern: what the video's self-attention is shaped by; None: nothing.
    forecast: which steps are forecast; None: none.
    sources: (cell, Source) for each of CELLS that the row fills.
    note: what a user of these models should know besides, a sentence.
    """

    models: tuple[str, ...]
    level: str
    kernel: KernelChoice
    pattern: PatternChoice | None = None
    forecast: ForecastSettings | None = None
    sources: tuple[tuple[str, Source], ...] = ()
    note: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        """List those of CELLS that say something."""
        shaped = self.pattern
        filled = {
            KERNEL: True, PATTERN: shaped, DENSITY: shaped, RANGE: shaped and (shaped.start, shaped.end) != (0.0, 1.0),
            DENSE: shaped and any(dense_parts(shaped)), FORECAST: self.forecast,
        }  # fmt: skip
        return tuple(cell for cell in CELLS if filled[cell])


def dense_parts(choice: PatternChoice) -> tuple[int, int, int, int]:
    """Give the numbers of first and last steps, first and last blocks that stay dense."""
    return (
        choice.dense_first_steps,
        choice.dense_last_steps,
        choice.dense_first_blocks,
        choice.dense_last_blocks,
    )
