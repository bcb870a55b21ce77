"""What Calibrate measured of one sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...attention.core.peak_memory import most_of
from ...attention.forecast import ForecastSettings
from ...attention.plans.calibrate import PlanOption, PlanPart
from ...attention.plans.choose_whole import WHOLE
from ...attention.plans.plan import Candidate
from ...attention.plans.step_times import time_of
from ...attention.plans.steps_together import StepsTogether


@dataclass
class Measured:
    """What was measured of one sampling.

    exact: latents of the host's own attention, one for each seed.
    options: the PlanOptions of each part, EXACT first.
    dropped: {what was left out: the reason}.
    named: {name of an option: Candidate or ForecastSettings}, those with a number for each head group included.
    steps: the PlanOptions of each range of steps, EXACT first: seconds of the whole sampling.
    even: the same of all steps alike, where they are several ranges; empty without forecasts.
    together: how many steps forecasts of several ranges leave together; None where that is not known.
    times: seconds of each whole exact sampling, as they ran.
    peaks: bytes at the peak of each of these, beside what was there before; None where nobody counted.
    """

    exact: list
    options: dict[PlanPart, list[PlanOption]]
    dropped: dict[str, str]
    named: dict[str, Candidate | ForecastSettings]
    steps: dict[PlanPart, list[PlanOption]] = field(default_factory=dict)
    even: list[PlanOption] = field(default_factory=list)
    together: StepsTogether | None = None
    times: list[float] = field(default_factory=list)
    peaks: list[int | None] = field(default_factory=list)

    @property
    def peak(self) -> int | None:
        """Gives the largest of the peaks."""
        return most_of(self.peaks)

    @property
    def memory(self) -> int:
        """Gives the most MiB that a call of a candidate may take; 0: there is no limit."""
        return max((getattr(one, "memory", 0) for one in self.named.values()), default=0)

    def add_exact_run(self, report) -> None:
        """Notes what an exact sampling took."""
        self.times.append(time_of(report.timeline).seconds)
        self.peaks.append(report.run_peak)

    @property
    def forecasts(self) -> dict[PlanPart, list[PlanOption]]:
        """Lists what may become of each range of steps, and of all steps alike."""
        return {**({WHOLE: self.even} if self.even else {}), **self.steps}

    @property
    def every(self) -> dict[PlanPart, list[PlanOption]]:
        """Lists all that there was to choose from: of ranges of steps, where it is more than one, then of parts."""
        return {**{at: found for at, found in self.forecasts.items() if len(found) > 1}, **self.options}
