"""Tries what changes over the steps of a part: ramps between two densities, choices of blocks that are kept."""

from __future__ import annotations

from ...attention.core.reason import Reason
from ...attention.patterns.ramp import COSINE, LINEAR, STEPS, ramped
from ...attention.plans import over_time
from ...attention.plans.calibrate import PlanOption, PlanPart
from ...attention.plans.plan import Candidate
from ..host import counted_runs
from . import alone
from .measured import Measured
from .repeated_sampling import Sampling

# Tried where LINEAR wins.
MORE_SHAPES = (COSINE, STEPS)


def add(
    sampling: Sampling,
    measured: Measured,
    kept: dict[PlanPart, list[PlanOption]],
    steps: dict[PlanPart, list[int]],
    report,
    thorough: bool,
) -> None:
    """Adds to the options of every part what is worth it of ramps and kept choices, a sampling each.

    measured: the options of all parts, with their errors.
    kept: part -> options that keep choices of blocks; their seconds are those of calls whose blocks were chosen before.
    steps: part -> its steps, from 0.
    report: Report of an exact sampling.
    thorough: whether both ways of a ramp, its shapes and all ways to keep are tried; else one of each.
    """
    each = max(1, round(report.evaluations / report.steps))
    for part, options in measured.options.items():
        more = _ramps(sampling, measured, part, steps, thorough)
        more += _keeping(sampling, measured, part, kept.get(part, []), len(steps[part]) * each, thorough)
        options += more


def _ramps(sampling: Sampling, measured: Measured, part: PlanPart, steps: dict, thorough: bool) -> list[PlanOption]:
    """Tries LINEAR in the likelier way, in the other where it loses, then the other shapes of what wins."""
    pair = over_time.pair_of(measured.options[part], measured.named)
    if pair is None:
        return []
    ends = [(measured.named[option.name], option) for option in pair]
    falls, found, seen = over_time.falls_first(part, pair[1].name, measured.options, steps), [], set()
    for way in (falls, not falls)[: 1 + thorough]:
        shapes = [LINEAR]
        for shape in shapes:
            ramp = over_time.between(ends[0][0], ends[1][0], way, shape)
            values = tuple(_values(sampling, part, ramp, steps[part]))
            if len(set(values)) < 2 or values in seen:
                continue
            seen.add(values)
            error = _error(sampling, part, ramp, measured)
            if error is not None:
                found.append(over_time.option_of(ramp, *ends, values, error.error))
                if thorough and shape == LINEAR and over_time.wins(found[-1], *pair):
                    shapes += MORE_SHAPES
        if len(shapes) > 1:
            break
    return found


def _values(sampling: Sampling, part: PlanPart, ramp: Candidate, steps: list[int]) -> list[float]:
    """Lists the number that changes, at each of the steps."""
    job, rule = sampling.job, ramp.rule(part.role, (part.blocks,), part.start, part.end)
    to_sigma, levels = job.model.get_model_object("model_sampling").percent_to_sigma, job.sigmas.tolist()
    at = (counted_runs.stretch_of(rule, levels[step], to_sigma, levels) for step in steps)
    return [getattr(rule.at(stretch).shape.pattern, ramped(ramp.pattern)) for stretch in at]


def _keeping(
    sampling: Sampling, measured: Measured, part: PlanPart, kept: list[PlanOption], evaluations: int, thorough: bool
) -> list[PlanOption]:
    """Tries to keep the choices of the pattern that gains most by it."""
    base, ways = over_time.keeping(measured.options[part], kept, measured.named, evaluations)
    found = []
    for option in ways if thorough else ways[:1]:
        tried = _error(sampling, part, measured.named[option.name], measured)
        if tried is not None and tried.chosen < 1:
            found.append(over_time.with_kept(option, base, tried.chosen, tried.error))
        elif tried is not None:
            measured.dropped[f"{option.name} in {part.text}"] = Reason("no choice of blocks was kept")
    return found


def _error(sampling: Sampling, part: PlanPart, candidate: Candidate, measured: Measured) -> alone.Alone | None:
    """Samples with a candidate in a part alone; None, and the reason noted, where it is out."""
    tried = alone.measure(sampling, part, candidate, measured.exact[0])
    if isinstance(tried, Reason):
        measured.dropped[f"{candidate.name} in {part.text}"] = tried
        return None
    measured.named[candidate.name] = candidate
    return tried
