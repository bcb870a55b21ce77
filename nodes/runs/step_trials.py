"""Measures forecasts on a model's own sampling: what each does to the final latent, and the time that it leaves."""

from __future__ import annotations

from dataclasses import replace

from ...attention.core.reason import Reason
from ...attention.forecast import ForecastSettings, ForecastSpan
from ...attention.plans.calibrate import EXACT, PlanOption, PlanPart
from ...attention.plans.choose_whole import WHOLE, range_of
from ...attention.plans.step_times import SamplingTime, cost_of_forecasts, time_of
from ...attention.plans.steps_together import StepsTogether
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
    settings: list[ForecastSettings],
    ranges: dict[PlanPart, list[int]],
    seconds: float,
    exact,
    dropped: dict[str, str],
) -> tuple[dict[PlanPart, list[PlanOption]], dict[tuple[PlanPart, str], list[int]]]:
    """Samples once for each way to forecast in each range of steps.

    Returns {range: EXACT and what saves time}, and {(range, option's name): the steps that were forecast, from 0}.

    settings: the ways.
    ranges: part of role STEPS -> its steps, from 0.
    seconds: of the whole exact sampling.
    exact: its latent.
    dropped: into which go those that are out, with the reason.
    """
    found, made = {}, {}
    for at, steps in ranges.items():
        whole = PlanOption(EXACT, seconds * len(steps) / sampling.job.steps, 0.0)
        found[at] = [whole]
        for one in settings:
            key = (one, at)
            tried = sampling.once(key, lambda at=at, one=one, steps=steps: _try(sampling, one, at, steps, exact))
            if isinstance(tried, Reason):
                dropped[f"{one.label} in {at.text}"] = tried
            else:
                error, cost, made[at, one.label] = tried
                found[at].append(replace(whole, name=one.label, seconds=cost * whole.seconds, error=error))
    return found, made


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
    settings: list[ForecastSettings], ranges: dict[PlanPart, list[int]], made: dict[tuple[PlanPart, str], list[int]]
) -> StepsTogether | None:
    """Tells how many steps forecasts of several ranges leave together; None where the sampler has a way of its own.

    settings, ranges: as of `measure`.
    made: the steps that each was seen to forecast, as `measure` gives them.
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
