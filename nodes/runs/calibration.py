"""Measures candidates on a model's own sampling: at single calls, and what each does to the final latent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import comfy.model_management

from ...attention.backends.autotune import HOST_RUN
from ...attention.core.peak_memory import MIB, most_of
from ...attention.core.reason import Reason
from ...attention.forecast import ForecastSettings
from ...attention.inspect.timeline import skipped
from ...attention.plans import calibrate, head_groups
from ...attention.plans.calibrate import EXACT, SAVES, PlanOption, PlanPart
from ...attention.plans.plan import Candidate
from ...attention.plans.probe import Probe
from ...attention.routing.rules import Rule
from ..host import counted_runs
from ..host.latent import parts_of
from . import alone, over_time, step_trials
from .measured import Measured
from .repeated_sampling import Sampling
from .sampling_job import Job

# Roles with less of attention's time than this are left alone.
WORTH = 0.05
# Blocks of a part in which candidates are tried.
BLOCKS = 2
ROUNDING = 1e-3
EACH, ONE = "every choice", "one choice for each part"


def plan_parts_of(report, job: Job, groups: int, parts: int) -> list[PlanPart]:
    """Lists the parts that a calibration decides about: every role worth it, by blocks and by the sampling's time.

    report: Report of one sampling with every call timed.
    job: its Job; a part of the sampling in which none of its steps begins is left out.
    groups: number of groups that the blocks are cut into.
    parts: number of parts that the sampling is cut into.
    Raises ValueError for a model of unknown blocks.
    """
    plan_parts = []
    for role in dict.fromkeys(row.role for row in report.rows):
        rows = [row for row in report.rows if row.role == role]
        blocks = sorted(set().union(*(row.blocks for row in rows)))
        if not blocks or sum(row.seconds for row in rows) < WORTH * report.seconds:
            continue
        for low, high in calibrate.spans(len(blocks), groups):
            plan_parts += [PlanPart(role, (blocks[low], blocks[high]), *part) for part in calibrate.ranges(parts)]
    if not plan_parts:
        raise ValueError("model: its blocks are unknown to this pack, so nothing can be chosen for them.")
    return [part for part in plan_parts if steps_in(job, part)]


def steps_in(job: Job, part: PlanPart) -> list[int]:
    """Lists the steps, from 0, that a rule for this part of the sampling covers."""
    rule, levels = Rule(start=part.start, end=part.end), job.sigmas.tolist()
    to_sigma = job.model.get_model_object("model_sampling").percent_to_sigma
    return [i for i, sigma in enumerate(levels[:-1]) if counted_runs.covers(rule, sigma, to_sigma, levels)]


def blocks_of(report, part: PlanPart) -> dict[int, int]:
    """Counts the calls of each block of a part in a whole sampling: {block: calls}."""
    rows = [row.by_block for row in report.rows if row.role == part.role]
    inside = sorted({block for row in rows for block in row if part.blocks[0] <= block <= part.blocks[1]})
    return {block: sum(row[block][0] for row in rows if block in row) for block in inside}


def measure(
    sampling: Sampling,
    candidates: list[Candidate],
    groups: int,
    parts: int,
    ends: str = EACH,
    seeds: int = 1,
    forecasts: Sequence[ForecastSettings] = (),
) -> Measured:
    """Measures every candidate in every part where it saves time.

    candidates: to try; with a `memory` they run in chunks for that, or are left out. Ramps are tried between densities.
    forecasts: ways to forecast steps to try in each range of steps, and in all steps alike.
    groups: number of groups that the blocks are cut into.
    parts: number of parts that the sampling is cut into.
    ends: EACH, to sample with each; ONE, to sample with one for each part and scale the others by their nearness.
    seeds: number of seeds that the plan will be run on.
    Raises ValueError, as `check` and plan_parts_of do.
    """
    sampling.expect(seeds + 1)
    exact, report = sampling.once((EXACT, 0), lambda: sampling.run(()))
    check(exact, report)
    plan_parts = plan_parts_of(report, sampling.job, groups, parts)
    measured = Measured([exact], {}, {}, {candidate.name: candidate for candidate in candidates})
    measured.named |= {one.label: one for one in forecasts}
    inside = {part: steps_in(sampling.job, part) for part in plan_parts}
    near, choices = _apart(_probe(sampling, candidates, plan_parts, report, measured), candidates, inside)
    wanted = {part: _to_run(found, ends) for part, found in near.items()}
    ranges = step_trials.ranges_of(plan_parts, partial(steps_in, sampling.job))
    every = step_trials.evenly(ranges, sampling.job.steps) if forecasts else {}
    sampling.expect(sum(map(len, wanted.values())) + (rest := len((*ranges, *every)) * len(forecasts) + 2 * seeds - 1))
    for part, found in near.items():
        measured.options[part] = _with_ends(sampling, part, found, wanted[part], measured, ends)
    over_time.add(sampling, measured, choices, inside, report, ends == EACH)
    sampling.expect(rest)
    seconds = step_trials.whole_time(report, measured.options).seconds
    step_trials.measure(sampling, measured, forecasts, ranges, every, seconds)
    _sample_more(sampling, seeds, report, measured)
    return measured


def _sample_more(sampling: Sampling, seeds: int, report, measured: Measured) -> None:
    """Samples exactly with the other seeds, and notes what that gave and took.

    report: of the first one.
    """
    others = [sampling.once((EXACT, more), lambda more=more: sampling.run((), more)) for more in range(1, seeds)]
    measured.exact += [latent for latent, _ in others]
    for found in (report, *(found for _, found in others)):
        measured.add_exact_run(found)


def _with_ends(sampling: Sampling, part: PlanPart, found: list[PlanOption], wanted, measured: Measured, ends: str):
    """Gives the PlanOptions of a part with their errors of the final latent; drops those that fail.

    found: EXACT and the others.
    wanted: those to sample with.
    ends: as of `measure`.
    """
    exact = measured.exact[0]
    run = {option: alone.measure(sampling, part, measured.named[option.name], exact) for option in wanted}
    good = [replace(option, error=end.error) for option, end in run.items() if not isinstance(end, Reason)]
    bad = {option.name: end for option, end in run.items() if isinstance(end, Reason)}
    measured.dropped |= {f"{name} in {part.text}": why for name, why in bad.items()}
    others = [option for option in found[1:] if option.name not in bad]
    return [found[0], *(good if ends == EACH else calibrate.scale(others, good))]


def check(exact, report) -> None:
    """Raises ValueError with a sentence where nothing can be measured by a sampling.

    exact: the latent that it gave.
    report: its Report; None where it was not counted.
    """
    if not all(bool(part.isfinite().all()) for part in parts_of(exact)):
        raise ValueError(
            "model: it gives NaN or Inf with ComfyUI's own attention already, so nothing can be compared with it. Try "
            "another dtype of the model, or another cfg."
        )
    if report is None:
        raise ValueError("model: its sampling was not counted, so nothing can be measured of it.")
    if reason := skipped(report.timeline):
        raise ValueError(f"model: {reason}: what is measured here would not be attention's. Connect it from before it.")


def _probe(
    sampling: Sampling, candidates, plan_parts: list[PlanPart], report, measured: Measured
) -> dict[PlanPart, list[PlanOption]]:
    """Finds the PlanOptions of every part by single calls and blocks; the final latent's error is open.

    Where candidates are top blocks of one number a second sampling tries, in each part, one with a number for each head
    group: see head_groups.assign, of what the first one measured.
    """
    inside = {part: steps_in(sampling.job, part) for part in plan_parts}
    candidates = [one for one in candidates if one.reuse is None]
    calls = {u: sum(blocks_of(report, u).values()) * len(inside[u]) / sampling.job.steps for u in plan_parts}
    places = {part: _places(part, inside[part], report) for part in plan_parts}
    patterns = [candidate.pattern for candidate in candidates if not candidate.keeps_choices]
    trials, shares, short = (sampling.known.setdefault((of, *candidates), {}) for of in ("trials", "shares", "short"))
    how = {"check": comfy.model_management.throw_exception_if_processing_interrupted, "short": short}
    everywhere = {where: candidates for found in places.values() for where in found}
    sampling.probe(partial(Probe, everywhere, trials, **how, levels=head_groups.levels(patterns), shares=shares))
    options = _tried(places, trials, calls, measured)
    measured.dropped |= {u.text: why for u in places if u not in options and (why := _why_untried(places[u], short))}
    made = {u: head_groups.best(patterns, [shares[p] for p in places[u] if p in shares]) for u in options}
    made = {u: Candidate(pattern=one).within(measured.memory) for u, one in made.items() if one is not None}
    more = sampling.known.setdefault(("more trials", *made.items()), {})
    if made:
        sampling.expect(1 + len(made) + 2 * len(measured.exact))
        sampling.probe(partial(Probe, {where: [made[u]] for u in made for where in places[u]}, more, **how))
        measured.named |= {candidate.name: candidate for candidate in made.values()}
    for part, (exact, *found) in _tried({u: places[u] for u in made}, more, calls, measured).items():
        # Seconds of two samplings compare by what the exact attention took in each.
        slower = options[part][0].seconds / exact.seconds
        options[part] += [replace(option, seconds=option.seconds * slower) for option in found]
    return options


def _apart(near: dict, candidates: list[Candidate], inside: dict) -> tuple[dict, dict]:
    """Gives every part the PlanOptions of outputs that are kept; takes those apart that keep choices of blocks."""
    kept = [candidate for candidate in candidates if candidate.reuse is not None]
    keeping = {candidate.name for candidate in candidates if candidate.keeps_choices}
    choices = {part: [one for one in found if one.name in keeping] for part, found in near.items()}
    others = {part: [one for one in found if one.name not in keeping] for part, found in near.items()}
    return {part: [*found, *_kept(found[0], kept, len(inside[part]))] for part, found in others.items()}, choices


def _kept(exact: PlanOption, candidates: list[Candidate], steps: int) -> list[PlanOption]:
    """Makes the PlanOptions of outputs that are kept: a single call tells nothing of them.

    exact: EXACT of their part.
    steps: of the part; the first of them attends.
    """
    shares = {one.name: math.ceil(steps / one.reuse.every) / steps for one in candidates}
    kept = {name: share for name, share in shares.items() if share < SAVES}
    # What attends is EXACT.
    return [
        replace(exact, name=name, seconds=(some := share * exact.seconds), error=math.inf, extra=some, often=share)
        for name, share in kept.items()
    ]


def _places(part: PlanPart, steps: list[int], report) -> list[tuple]:
    """Picks where the part's candidates are tried: (role, block, step) of some blocks in its middle step."""
    return [(part.role, block, steps[len(steps) // 2]) for block in _some(list(blocks_of(report, part)), BLOCKS)]


def _tried(places: dict, trials: dict, calls: dict, measured: Measured) -> dict[PlanPart, list[PlanOption]]:
    """Makes the PlanOptions of parts from their trials; leaves out parts without any."""
    found = {part: [trials[where] for where in some if trials.get(where)] for part, some in places.items()}
    return {part: _options(part, some, calls[part], measured) for part, some in found.items() if some}


def _why_untried(places: list[tuple], short: dict[tuple, str]) -> str:
    """Says why nothing is known of a part, which stays as it is; empty where its calls just were not seen."""
    return next((f"it could not be tried: {short[where]}" for where in places if where in short), "")


def _options(part: PlanPart, found: list[dict], calls: float, measured: Measured) -> list[PlanOption]:
    """Makes EXACT and what saves time, or keeps the memory budget where EXACT does not, each with the mean over the
    blocks where it was tried, and the most memory in any of them."""
    exact = sum(trials[HOST_RUN].seconds for trials in found) / len(found)
    peaks = {name: [trials[name].peak for trials in found] for name in found[0]}
    peaks = {name: most_of(some) for name, some in peaks.items()}
    over = bool(measured.memory) and (peaks[HOST_RUN] or 0) > measured.memory * MIB
    options = [PlanOption(EXACT, calls * exact, 0.0, peak=peaks[HOST_RUN], over=over)]
    for name in found[0]:
        tried = [trials[name] for trials in found]
        reason = next((trial.reason for trial in tried if trial.reason), None)
        if name == HOST_RUN:
            continue
        if reason:
            # Of what keeps choices the same pattern without says it.
            if not measured.named[name].keeps_choices:
                measured.dropped.setdefault(f"{name} as {part.role}-attention", reason)
            continue
        seconds = sum(trial.seconds for trial in tried) / len(tried)
        effects = [trial.effect for trial in tried if trial.effect is not None]
        if seconds < SAVES * exact or over:
            effect = _root_mean(effects) if len(effects) == len(tried) else None
            errors, memory = (_root_mean([t.error for t in tried]), effect), (peaks[name], tried[0].chunks)
            options.append(PlanOption(name, calls * seconds, math.inf, *errors, *memory))
    return options


def _to_run(options: list[PlanOption], ends: str) -> list[PlanOption]:
    """Picks the options whose final latent is measured: those not beaten, or the one in the middle of them."""
    # Of what was not tried at single calls nothing is known before.
    known = [option for option in options if option.local is not None or option.name == EXACT]
    usable = calibrate.usable(known)
    # What changes nothing in the block is as near as EXACT.
    found = [option for option in calibrate.front(usable) if option is not options[0]]
    unknown = [option for option in options if option not in known]
    # Exact kernels' rounding says nothing of what larger errors do.
    rough = [option for option in found if option.nearness > ROUNDING] or found
    return [*(found if ends == EACH else rough[len(rough) // 2 :][:1]), *unknown]


def _some(values: list, count: int) -> list:
    """Picks `count` of the values, spread evenly; all if there are fewer."""
    count = min(count, len(values))
    return [values[(2 * i + 1) * len(values) // (2 * count)] for i in range(count)]


def _root_mean(errors: list[float]) -> float:
    return calibrate.predict(errors) / math.sqrt(len(errors)) if errors else 0.0
