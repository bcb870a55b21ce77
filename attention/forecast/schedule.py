"""Which steps are forecast: by a fixed schedule, or as far as the error that is measured allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from .memory import needed
from .record import ADAPTIVE, COMPUTED, FORECAST
from .settings import ForecastSettings, ForecastSpan


class StepSchedule:
    """Decides step by step whether it is computed or forecast.

    settings: of each step of the run; of one of `in_a_row` 0 nothing is forecast.
    most: the most in a row that the sampler stands, None for any number.
    """

    def __init__(self, settings: Sequence[ForecastSettings], most: int | None = None):
        self._each, self._cap = tuple(settings), most
        self._settings = self._each[0] if self._each else ForecastSettings(in_a_row=0)
        self.most = max(map(self._most_of, self._each), default=0)
        # With a bound, the errors of the warm-up say how many there may be.
        self._allowed = 0
        self.row = 0

    @property
    def distance(self) -> int:
        """Return how many steps the next one is away from the last that was computed."""
        return self.row + 1

    def at(self, step: int) -> ForecastSettings:
        """Return what holds in a step, from 0."""
        return self._each[step]

    def _most_of(self, settings: ForecastSettings) -> int:
        return settings.in_a_row if self._cap is None else min(settings.in_a_row, self._cap)

    @property
    def allowed(self) -> int:
        """Return how many steps may be forecast in a row from the last one that was computed."""
        most = self._most_of(self._settings)
        return min(most, self._allowed) if self._settings.max_error else most

    def forecasts(self, step: int) -> bool:
        """Tell whether a step may be forecast.

        step: from 0.
        """
        self._settings = self._each[step]
        return self.may(step) and self.row < self.allowed

    def may(self, step: int) -> bool:
        """Tell whether a step could be forecast, whatever was before it and however far off forecasts are.

        step: from 0.
        """
        own = self._each[step]
        return own.warm_up <= step < len(self._each) - own.last and self._most_of(own) > 0

    def note_forecast(self) -> None:
        """Note that a step was forecast."""
        self.row += 1

    def note_computed(self, error: float | None = None) -> None:
        """Note that a step was computed, and allow as many in a row from here as its error tells.

        error: relative L2 of what had been forecast for it, `distance` steps after the last computed one; None where
            nothing had been. Nearer forecasts are taken to be better in proportion to their distance.
        """
        bound, distance = self._settings.max_error, self.distance
        self.row = 0
        if not bound or error is None:
            return
        if not math.isfinite(error):
            self._allowed = 0
            return
        # A forecast as far away as this one was erred as this one did, so that many keep the bound.
        self._allowed = distance if error <= bound else math.floor(distance * bound / error)


def foresee(settings: Sequence[ForecastSettings], most: int | None = None) -> tuple[str, ...]:
    """Tell of each step, before a run, whether it is COMPUTED or FORECAST, or ADAPTIVE where errors decide.

    settings: as of StepSchedule.
    most: as of StepSchedule.
    """
    schedule, found, sure, measured = StepSchedule(settings, most), [], True, False
    # How many were computed before, at the least and at the most.
    least = greatest = 0
    for step, one in enumerate(settings):
        planned, bound, enough = schedule.forecasts(step), one.max_error, needed(one)
        if not schedule.may(step):
            kind, sure = COMPUTED, True
        elif greatest < enough or bound and not measured:
            # Where an error is known it may have been planned, which counts as if it had been forecast.
            kind, sure = COMPUTED, sure and not (bound and measured)
        elif bound or not sure or least < enough:
            kind, sure = ADAPTIVE, False
        else:
            kind = FORECAST if planned else COMPUTED
        # Errors are measured once a forecast could be made, whether one was allowed or not.
        measured = measured or bool(bound) and greatest >= enough
        least, greatest = least + (kind == COMPUTED), greatest + (kind != FORECAST)
        # What was to be forecast and could not counts as if it had been.
        (schedule.note_forecast if planned else schedule.note_computed)()
        found.append(kind)
    return tuple(found)


def settings_of_steps(
    spans: Sequence[ForecastSpan], steps: int, covers: Callable[[ForecastSpan, int], bool]
) -> list[ForecastSettings]:
    """List what holds in each step; the last span that covers it wins.

    covers: tells whether a span covers a step, from 0.

    Where none does nothing is forecast, but remembered for the next one that does.
    """
    found = [next((span.settings for span in reversed(spans) if covers(span, step)), None) for step in range(steps)]
    following = spans[-1].settings
    for step in reversed(range(steps)):
        following = found[step] or replace(following, in_a_row=0)
        found[step] = following
    return found
