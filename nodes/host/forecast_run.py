"""One sampling run with forecasts: what its sampler evaluates, what is remembered, which evaluations are made up."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

import torch
from comfy.model_management import InterruptProcessingException

from ...attention.core.error_handling import error_text, free_frames
from ...attention.core.identity import KeepsIdentity
from ...attention.core.reason import Reason
from ...attention.forecast import ForecastSettings
from ...attention.forecast.history import History, Streams
from ...attention.forecast.record import COMPUTED, FORECAST, PARTLY, Evaluation, ForecastRecord
from ...attention.forecast.schedule import StepSchedule
from .rehearsal import NEAR, Rehearsal

# Of a MODEL's wrappers, and of the ForecastRun in the host's transformer_options.
KEY = "video_attention.forecast"
# What is forecast of a model call.
HEAD, VELOCITY, DENOISED = "what goes into the model's last layer", "the model's output", "the denoised clip"
OTHERWISE = Reason("the sampler evaluates the model otherwise than in a rehearsal")
UNEXPECTED = Reason("the model gave NaN or Inf")


class ForecastRun(KeepsIdentity):
    """Goes along with a sampling run, from one model evaluation to the next.

    settings: what is asked for in each step.
    rehearsal: what the sampler will evaluate.
    most: the most steps in a row that it stands, None for any number.
    place: what is forecast, HEAD, VELOCITY or DENOISED.
    forecasting: whether the evaluation at hand is forecast.
    """

    def __init__(self, settings: list[ForecastSettings], rehearsal: Rehearsal, most: int | None, place: str):
        self.place, self._calls = place, rehearsal.calls
        self.schedule = StepSchedule(settings, most)
        self.history = History(*(dict.fromkeys(settings) or (ForecastSettings(),)))
        self.record = ForecastRecord(place)
        self.forecasting = False
        self._number, self._at, self._planned = -1, None, False
        self._computed = self._made = 0
        self._errors: list[torch.Tensor] = []
        self._step_errors: list[float | None] = []

    @property
    def idle(self) -> bool:
        """Tells whether all is computed from here on, and nothing need be remembered."""
        return bool(self.record.refused) or not self.schedule.most

    def refuse(self, why: str) -> None:
        """Lets everything be computed from here on, and forgets all."""
        self.record.refused = self.record.refused or why
        self.forecasting = False
        self.history.forget()

    def attempt(self, function: Callable, what: str):
        """Gives what a function gives that the render does not need: None where it fails, and nothing is forecast then.

        what: it does, in words.
        """
        try:
            return function()
        except InterruptProcessingException:
            raise
        except Exception as error:
            self.refuse(Reason(f"{what} failed ({error_text(error)})"))
            free_frames(error)
            return None

    def begin(self, sigma: float) -> None:
        """Begins an evaluation at a noise level, and decides whether it is forecast."""
        self.forecasting = False
        if self.idle or not self._find(sigma):
            return
        if self._at.begins:
            self._close_step()
            self.history.settings = self.schedule.at(self._at.step)
            self._planned = self.schedule.forecasts(self._at.step)
        self.forecasting = self._planned
        self._computed = self._made = 0
        self._errors = []

    def _find(self, sigma: float) -> bool:
        """Finds which of the sampler's calls this is; refuses what the rehearsal did not have."""
        for number in (self._number + 1, self._number):  # the same once more where an evaluation failed
            call = self._calls[number] if 0 <= number < len(self._calls) else None
            if call is not None and math.isclose(call.sigma, sigma, rel_tol=NEAR, abs_tol=1e-8):
                self._number, self._at = number, call
                return True
        self._at = None
        self.refuse(OTHERWISE)
        return False

    def end(self) -> None:
        """Ends the evaluation: notes what became of it. Waits for the GPU where something was computed."""
        error = None
        if self._computed:
            sizes = torch.stack([e.float().cpu() for e in self._errors]).tolist() if self._errors else []
            error = max(sizes, default=None)
            if error is not None and not all(map(math.isfinite, sizes)):
                self.refuse(UNEXPECTED)
        kind = COMPUTED if not self._made else PARTLY if self._computed else FORECAST
        distance = 0 if error is None else self.schedule.distance
        step = self.record.step if self._at is None else self._at.step + 1
        self.record.evaluations.append(Evaluation(kind, step, error, distance))
        self._step_errors.append(error)
        self.record.size = max(self.record.size, self.history.size)
        self._computed = self._made = 0

    def _close_step(self) -> None:
        """Ends the step before: what its evaluations erred decides about the next."""
        if not self._step_errors:
            return
        if self._planned:
            self.schedule.note_forecast()
        else:
            known = [error for error in self._step_errors if error is not None]
            self.schedule.note_computed(max(known, default=None))
            # A prompt or a context window that three computed steps did without is gone.
            self.history.forget(before=self._at.step - 3 * (self.schedule.most + 1))
        self._step_errors = []

    def key(self, *parts: Hashable) -> tuple:
        """Names what is remembered of this evaluation: apart for each of a step's."""
        return (self._at.stage, *parts)

    def ready(self, keys: list[tuple]) -> bool:
        """Tells whether all of these can be forecast."""
        return all(map(self.history.is_ready, keys))

    def guess(self, keys: list[tuple], like: Streams | None = None) -> list[Streams]:
        """Forecasts each of the keys for the step at hand."""
        return [self.history.forecast(key, self._at.step, like) for key in keys]

    def computed(self, keys: list[tuple], values: list[Streams], error: torch.Tensor | None) -> None:
        """Remembers what was computed.

        error: relative L2 of what had been forecast for it, a scalar tensor; None where nothing had been.
        """
        self._computed += 1
        for key, value in zip(keys, values, strict=True):
            self.history.push(key, self._at.step, value)
        if error is not None:
            self._errors.append(error)

    def made(self) -> None:
        """Counts a model call that was forecast."""
        self._made += 1
