"""How many steps forecasts of several ranges leave to compute together: a row of them goes on from range to range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from ..forecast import ForecastSettings
from ..forecast.memory import needed
from ..forecast.schedule import StepSchedule
from .calibrate import PlanOption, PlanPart

Steps = dict[PlanPart, list[PlanOption]]
# Option of each range, what is left of each range's time, and the seconds that both can take at the least.
Taken = tuple[dict[PlanPart, PlanOption], dict[PlanPart, float], float]
# Choices that are kept of those which forecast as many steps.
FEW = 6
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
    def _most_needed(self) -> int:
        return max(map(needed, self.settings.values()), default=1)

    def alone(self, at: PlanPart, name: str) -> list[int]:
        """List the steps of a range that an option forecasts where all others are computed."""
        return self._follow(at, name, (0, min(self._most_needed, self.ranges[at][0])))[0]

    def least(self, options: Steps) -> Steps:
        """Give each option the least time that it can take, whatever comes before its range."""
        rows = range(1 + max((one.in_a_row for one in self.settings.values()), default=0))
        states = list(product(rows, range(self._most_needed + 1)))
        return {
            at: [
                replace(o, seconds=found[0].seconds * min(self._share(at, found, o, s)[0] for s in states))
                for o in found
            ]
            for at, found in options.items()
        }

    def fronts(self, options: Steps, least: Mapping[PlanPart, float]) -> list[Taken]:
        """List what may be taken in all ranges: of each number of computed steps what no other beats.

        options: of each range, EXACT first, seconds of each alone.
        least: of each range, the seconds that it takes with every step computed and the fastest of all that runs in
            them. With those of the exact steps it tells in which ranges steps are best forecast.

        Of choices for the first ranges that come to the same State and number of steps some few count for those
        behind: of the smallest errors, and of the least seconds for them.
        """
        found: dict[tuple[State, int], list[_Way]] = {((0, 0), 0): [_Way(0.0, 0.0, {}, {})]}
        for at in sorted(options, key=lambda at: at.start):
            then: dict[tuple[State, int], list[_Way]] = {}
            for (state, made), ways in found.items():
                for option in options[at]:
                    share, more, end = self._share(at, options[at], option, state)
                    for way in ways:
                        _keep(then.setdefault((end, made + more), []), way.then(at, option, share, least[at]))
            found = then
        best: dict[int, list[_Way]] = {}
        for (_, made), ways in found.items():
            for way in ways:
                _keep(best.setdefault(made, []), way)
        return [(way.taken, way.shares, way.least) for ways in best.values() for way in ways]

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
            if planned and known >= needed(settings):
                made.append(step)
            else:
                known = min(self._most_needed, known + 1)
            schedule.note_forecast() if planned else schedule.note_computed()
        return made, (schedule.row, known)


@dataclass(frozen=True)
class _Way:
    """What the first ranges take.

    square: of their errors.
    least: seconds that they can take.
    """

    square: float
    least: float
    taken: dict[PlanPart, PlanOption]
    shares: dict[PlanPart, float]

    def then(self, at: PlanPart, option: PlanOption, share: float, least: float) -> _Way:
        """Go on with what the next range takes."""
        taken, shares = {**self.taken, at: option}, {**self.shares, at: share}
        return _Way(self.square + option.error**2, self.least + share * least, taken, shares)


def _keep(ways: list[_Way], one: _Way) -> None:
    """Keep what no other beats in both, FEW at most: without the one that saves least."""
    if any(way.square <= one.square and way.least <= one.least for way in ways):
        return
    ways[:] = sorted((*(w for w in ways if w.square < one.square or w.least < one.least), one), key=lambda w: w.square)
    if len(ways) > FEW:
        # The nearest and the fastest stay.
        saved = [before.least - way.least for before, way in zip(ways, ways[1:-1])]
        del ways[1 + saved.index(min(saved))]
