"""Which steps are forecast: by a fixed schedule, or as far as the error that is measured allows."""

from __future__ import annotations

import math

from .settings import ForecastSettings


class StepSchedule:
    """Decides step by step whether it is computed or forecast.

    settings: the schedule and the bound of the error.
    steps: of the run.
    most: the most in a row that the sampler stands, None for any number.
    """

    def __init__(self, settings: ForecastSettings, steps: int, most: int | None = None):
        self._settings, self._steps = settings, steps
        self.most = settings.in_a_row if most is None else min(settings.in_a_row, most)
        # With a bound, the errors of the warm-up say how many there may be.
        self.allowed = 0 if settings.max_error else self.most
        self.row = 0

    @property
    def distance(self) -> int:
        """Return how many steps the next one is away from the last that was computed."""
        return self.row + 1

    def forecasts(self, step: int) -> bool:
        """Tell whether a step may be forecast.

        step: from 0.
        """
        inside = self._settings.warm_up <= step < self._steps - self._settings.last
        return inside and self.row < self.allowed

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
            self.allowed = 0
            return
        # A forecast as far away as this one was erred as this one did, so that many keep the bound.
        fitting = distance if error <= bound else math.floor(distance * bound / error)
        self.allowed = min(self.most, fitting)
