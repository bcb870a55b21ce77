"""What a run did about its evaluations: which were computed, which forecast, and how far forecasts were off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

COMPUTED, FORECAST, PARTLY = "computed", "forecast", "in part forecast"
# Of a step, before a run: the error that is measured decides.
ADAPTIVE = "adaptive"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the model by a sampler.

    kind: COMPUTED, FORECAST, or PARTLY where only some of its prompts could be forecast.
    step: of the sampler, from 1.
    error: relative L2 of the forecast that was made beside a computed one; None where none was.
    distance: how many steps that forecast was away from the last computed one.
    """

    kind: str
    step: int
    error: float | None = None
    distance: int = 0


class ForecastRecord:
    """Lists the evaluations of a run.

    what: is forecast, in words.
    refused: why nothing is, a few words; "" while something may be.
    size: the most bytes that were remembered.
    settings: the ForecastSettings that were asked for; None for none.
    """

    def __init__(self, what: str = ""):
        self.what, self.refused, self.size, self.settings = what, "", 0, None
        self.evaluations: list[Evaluation] = []
        self._over = 0

    def mark(self) -> None:
        """Note that a step of the sampler is over."""
        self._over += 1

    @property
    def step(self) -> int:
        """Return the number of the step at hand, from 1, as the sampler tells it."""
        return self._over + 1

    def of_step(self, step: int) -> list[Evaluation]:
        """List the evaluations of a step.

        step: from 1.
        """
        return [one for one in self.evaluations if one.step == step]

    @property
    def forecast(self) -> int:
        """Count the evaluations that were forecast as a whole."""
        return sum(one.kind == FORECAST for one in self.evaluations)

    def counted(self) -> str:
        """Say how many evaluations were forecast."""
        return f"{self.forecast} of {len(self.evaluations)} evaluations forecast"

    def sentences(self) -> tuple[str, ...]:
        """Say which steps were forecast, how far off forecasts were where that was measured, and what it took."""
        if not self.evaluations or self.refused and not self.forecast:
            return (f"Nothing was forecast: {self.refused}.",) if self.refused else ()
        steps = sorted({one.step for one in self.evaluations if one.kind != COMPUTED})
        if not steps:
            measured = self._measured()
            why = "the error stayed above the bound" if measured else "the schedule computes all of these steps"
            return tuple(filter(None, (f"Nothing was forecast: {why}.", measured)))
        parts = sum(one.kind == PARTLY for one in self.evaluations)
        some = f", {parts} more in part" if parts else ""
        first = f"Forecast: {self.what} in steps {spans(steps)}; {self.counted()}{some}."
        kept = f"It remembered up to {self.size / 2**20:.1f} MiB." if self.size else ""
        stopped = f"From there on all was computed: {self.refused}." if self.refused else ""
        return tuple(filter(None, (first, self._measured(), kept, stopped)))

    def _measured(self) -> str:
        errors = [(one.error, one.distance) for one in self.evaluations if one.error is not None]
        if not errors:
            return ""
        far = max(distance for _, distance in errors)
        worst = max(error for error, _ in errors)
        mean = sum(error for error, _ in errors) / len(errors)
        return (
            f"Estimated error of a forecast, measured at {len(errors)} computed evaluations: relative L2 {mean:.2g} on "
            f"average, {worst:.2g} at most, up to {far} {'step' if far == 1 else 'steps'} ahead."
        )


def spans(numbers: Sequence[int]) -> str:
    """Write rising numbers down: `5, 7-9`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)
