"""Measures forecasts on a model's own sampling: what each does to the final latent, and the time that it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ...attention.core.reason import Reason
from ...attention.forecast import ForecastSettings, ForecastSpan
from ...attention.plans.calibrate import EXACT, PlanOption, PlanPart
from ...attention.plans.choose_whole import WHOLE, range_of
from ...attention.plans.step_times import SamplingTime, cost_of_forecasts, time_of
from ...attention.plans.steps_together import StepsTogether
from .measured import Measured
from .repeated_sampling import Sampling, distance


def whole_time(report, options: dict[PlanPart, list[PlanOption]]) -> SamplingTime:
    """Finds what one exact sampling takes, in the seconds of the parts' options.

    report: Report of it with every call timed.
    options: of each part; their seconds are the least of several, with nothing else at work, so that the whole is what
        it was beside attention in the report.
    """
    ran, parts = time_of(report.timeline), sum(found[0].seconds for found in options.values())
    roles = {part.role for part in options}
    timed = sum(row.seconds for row in report.rows)
    ours = sum(row.seconds for row in report.rows if row.role in roles)
    share = ran.share * ours / timed if timed else 0.0
    return SamplingTime(parts / share if share else max(ran.seconds, parts), parts)


def measure(
    sampling: Sampling,
    measured: Measured,
    settings: Sequence[ForecastSettings],
    ranges: dict[PlanPart, list[int]],
    every: dict[PlanPart, list[int]],
    seconds: float,
) -> None:
    """Samples once for each way to forecast in each range of steps, and notes EXACT and what saves time.

    measured: into which it goes, and what is out, with the reason.
    settings: the ways.
    ranges: part of role STEPS -> its steps, from 0.
    every: all steps as one range, as `evenly` gives them.
    seconds: of the whole exact sampling.
    """
    found, made = {}, {}
    for at, steps in {**every, **ranges}.items():
        whole = PlanOption(EXACT, seconds * len(steps) / sampling.job.steps, 0.0)
        found[at] = [whole]
        for one in settings:
            trial = partial(_try, sampling, one, at, steps, measured.exact[0])
            tried = sampling.once((one, at), trial)
            if isinstance(tried, Reason):
                measured.dropped[f"{one.label} in {at.text}"] = tried
            else:
                error, cost, made[at, one.label] = tried
                found[at].append(replace(whole, name=one.label, seconds=cost * whole.seconds, error=error))
    measured.steps, measured.even = {at: found[at] for at in ranges}, [one for at in every for one in found[at]]
    measured.together = together(settings, ranges, made)


def _try(sampling: Sampling, settings, at: PlanPart, steps: list[int], exact) -> tuple[float, float, list] | Reason:
    latent, report = sampling.run((), spans=(ForecastSpan(settings, at.start, at.end),))
    error, cost = distance(latent, exact), cost_of_forecasts(report.timeline, steps)
    if not report.forecasts:
        said = next((note for note in report.notes if note.startswith("Nothing was forecast")), "nothing was forecast")
        return Reason(said.removeprefix("Nothing was forecast: ").rstrip("."))
    if error == float("inf"):
        return Reason("NaN or Inf in the latent")
    made = [step.step - 1 for step in report.timeline if step.forecast and not step.calls]
    return (error, cost, made) if cost < 1.0 else Reason("a forecast takes as long as computing")


def together(
    settings: Sequence[ForecastSettings], ranges: dict[PlanPart, list[int]], made: dict[tuple[PlanPart, str], list[int]]
) -> StepsTogether | None:
    """Tells how many steps forecasts of several ranges leave together; None where the sampler has a way of its own.

    settings, ranges: as of `measure`.
    made: {(range, name of an option): the steps that it was seen to forecast, from 0}.
    """
    rows = [row for steps in made.values() for row in _rows(steps)]
    found = StepsTogether(ranges, {one.label: one for one in settings}, max(rows, default=None))
    seen = {(at, name): steps for (at, name), steps in made.items() if at in ranges}
    return found if all(found.alone(at, name) == steps for (at, name), steps in seen.items()) else None


def _rows(steps: list[int]) -> list[int]:
    """Lists how many of some steps follow each other, for each row of them."""
    ends = [i for i, step in enumerate(steps) if steps[i + 1 : i + 2] != [step + 1]]
    return [end - start for start, end in zip([-1, *ends], ends)]


def ranges_of(plan_parts: list[PlanPart], steps_in) -> dict[PlanPart, list[int]]:
    """Lists the ranges of steps that parts of the model have, each with its steps.

    steps_in: gives the steps of a part.
    """
    found = dict.fromkeys(range_of(part.start, part.end) for part in plan_parts)
    return {at: steps_in(at) for at in found}


def evenly(ranges: dict[PlanPart, list[int]], steps: int) -> dict[PlanPart, list[int]]:
    """Lists all steps as one range, unless they are one already: {WHOLE: steps}, or nothing."""
    return {WHOLE: list(range(steps))} if len(ranges) > 1 else {}
