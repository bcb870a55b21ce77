"""How many steps forecasts of several ranges leave to compute together: a row of them goes on from range to range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from ..forecast import ForecastSettings
from ..forecast.memory import remembered
from ..forecast.schedule import StepSchedule
from .calibrate import PlanOption, PlanPart

Steps = dict[PlanPart, list[PlanOption]]
# Option of each range, and what is left of each range's time.
Taken = tuple[dict[PlanPart, PlanOption], dict[PlanPart, float]]
# What a range knows of those before: steps in a row that were to be forecast, and computed ones that are remembered.
State = tuple[int, int]


@dataclass(frozen=True)
class StepsTogether:
    """Knows which steps of a run are forecast, by the schedule alone.

    ranges: steps of each range, from 0.
    settings: name of an option -> how it forecasts; names that are not here compute.
    most: the most steps in a row that the sampler stands, None for any number.
    """

    ranges: Mapping[PlanPart, Sequence[int]]
    settings: Mapping[str, ForecastSettings]
    most: int | None = None

    @cached_property
    def steps(self) -> int:
        """Count all steps."""
        return 1 + max((step for steps in self.ranges.values() for step in steps), default=-1)

    @cached_property
    def _needed(self) -> int:
        return max(map(_needs, self.settings.values()), default=1)

    def alone(self, at: PlanPart, name: str) -> list[int]:
        """List the steps of a range that an option forecasts where all others are computed."""
        return self._follow(at, name, (0, min(self._needed, self.ranges[at][0])))[0]

    def least(self, options: Steps) -> Steps:
        """Give each option the least time that it can take, whatever comes before its range."""
        rows = range(1 + max((one.in_a_row for one in self.settings.values()), default=0))
        states = list(product(rows, range(self._needed + 1)))
        return {
            at: [
                replace(o, seconds=found[0].seconds * min(self._share(at, found, o, s)[0] for s in states))
                for o in found
            ]
            for at, found in options.items()
        }

    def fronts(self, options: Steps) -> Iterator[Taken]:
        """List what may be taken in all ranges: of each number of computed steps what has the smallest error.

        options: of each range, EXACT first, seconds of each alone.

        Of choices for the first ranges that come to the same State and the same number of steps only the one of the
        smallest error counts for those behind.
        """
        found: dict[tuple[State, int], tuple[float, dict, dict]] = {((0, 0), 0): (0.0, {}, {})}
        for at in sorted(options, key=lambda at: at.start):
            then: dict[tuple[State, int], tuple[float, dict, dict]] = {}
            for (state, made), (square, taken, shares) in found.items():
                for option in options[at]:
                    share, more, end = self._share(at, options[at], option, state)
                    one = square + option.error**2, {**taken, at: option}, {**shares, at: share}
                    _keep(then, (end, made + more), one)
            found = then
        best: dict[int, tuple[float, dict, dict]] = {}
        for (_, made), one in found.items():
            _keep(best, made, one)
        for made, (square, *way) in best.items():
            # More computed steps with a larger error are no choice.
            if all(best[more][0] > square for more in best if more > made):
                yield tuple(way)

    def _share(
        self, at: PlanPart, found: list[PlanOption], option: PlanOption, state: State
    ) -> tuple[float, int, State]:
        """Return what is left of a range's time, how many of its steps are forecast, and the State at its end."""
        (made, end), alone = self._follow(at, option.name, state), len(self.alone(at, option.name))
        left = option.seconds / found[0].seconds if found[0].seconds else 1.0
        saved = (1.0 - left) / (alone or len(self.ranges[at]))
        return max(0.0, 1.0 - saved * len(made)), len(made), end

    def _follow(self, at: PlanPart, name: str, state: State) -> tuple[list[int], State]:
        """Go through the steps of a range: those that are forecast, and the State at its end."""
        settings = self.settings.get(name) or ForecastSettings(in_a_row=0)
        schedule, made = StepSchedule([replace(settings, max_error=0.0)] * self.steps, self.most), []
        schedule.row, known = state
        for step in self.ranges[at]:
            planned = schedule.forecasts(step)
            if planned and known >= _needs(settings):
                made.append(step)
            else:
                known = min(self._needed, known + 1)
            schedule.note_forecast() if planned else schedule.note_computed()
        return made, (schedule.row, known)


def _needs(settings: ForecastSettings) -> int:
    """Return how many computed steps a forecast is made of, at the least."""
    return min(settings.degree + 1, remembered(settings))


def _keep(found: dict, key, one: tuple) -> None:
    """Keep the smallest error of each key."""
    if key not in found or one[0] < found[key][0]:
        found[key] = one
