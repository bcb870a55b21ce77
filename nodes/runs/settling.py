"""Chooses a plan from what was measured, runs it on every seed, and corrects the prediction by what that gives."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...attention.core.peak_memory import most_of
from ...attention.forecast import ForecastSpan
from ...attention.plans.calibrate import EXACT
from ...attention.plans.choose_whole import WholeChoice, all_exact, choose_whole
from ...attention.plans.plan import PlanForecast, PlanRule
from ...attention.plans.spread import USUAL, WIDE, predict_quantile
from ...attention.plans.step_times import time_of
from ...attention.routing.rules import Rule
from .measured import Measured
from .repeated_sampling import Sampling, distance

# Runs of a chosen plan before the search for one is given up.
ROUNDS = 5
# A plan that uses this much of its budget is not worth another run.
NEAR = 0.8


@dataclass(frozen=True)
class Settled:
    """What was chosen, and what it gave.

    choice: with the error that is predicted for QUANTILE of all prompts.
    errors: relative L2 of the final latent on each seed.
    times: seconds of the whole sampling on each seed, as it ran.
    peak: bytes at the peak of any of these runs, beside what was there before; None where nobody counted.
    """

    choice: WholeChoice
    errors: list[float]
    times: list[float]
    peak: int | None = None


def settle(sampling: Sampling, measured: Measured, budget: float) -> Settled:
    """Chooses the fastest plan that keeps the budget: chosen by prediction, then run, which corrects the prediction.

    budget: largest relative L2 of the final latent, for QUANTILE of all prompts as the seeds tell it.
    All EXACT when none kept the budget.
    """
    factor, kept, seen, runs = 1.0, [], set(), []
    for _ in range(ROUNDS):
        among = measured.options, measured.steps
        choice = choose_whole(*among, budget, factor, measured.even, measured.together)
        taken = tuple(
            sorted((part.text, option.name) for part, option in choice.chosen.items() if option.name != EXACT)
        )
        if not taken or taken in seen:
            break
        seen.add(taken)
        # Chunks change what is rounded.
        key = (measured.memory, *taken)
        sampling.expect(len(measured.exact))
        rules = tuple(step.rule() for step in plan_rules_of(choice, measured))
        spans = tuple(one.span() for one in plan_forecasts_of(choice, measured))
        ran = [_run(sampling, key, rules, spans, more, exact) for more, exact in enumerate(measured.exact)]
        errors, times, peaks = map(list, zip(*ran, strict=True))
        wide = WIDE if spans or any(rule.reuse is not None for rule in rules) else USUAL
        error, raw = predict_quantile(errors, runs, wide), choice.error / factor
        runs.append(errors)
        if error <= budget:
            kept.append(Settled(replace(choice, error=error), errors, times, most_of(peaks)))
        if NEAR * budget <= error <= budget or not raw:
            break
        factor = min(max(error / raw, 1e-3), 1e3)
    none = [0.0] * len(measured.exact)
    exact = Settled(all_exact(measured.options, measured.steps), none, measured.times, measured.peak)
    return min(kept, key=lambda one: one.choice.whole, default=exact)


def _run(sampling: Sampling, key: tuple, rules: tuple[Rule, ...], spans: tuple[ForecastSpan, ...], more: int, exact):
    """Gives (error, seconds of the whole sampling, bytes at its peak) of a plan on one seed."""

    def measure() -> tuple[float, float, int | None]:
        latent, report = sampling.run(rules, more, spans)
        return distance(latent, exact), time_of(report.timeline).seconds, report.run_peak

    return sampling.once((key, more), measure)


def plan_forecasts_of(choice: WholeChoice, measured: Measured) -> tuple[PlanForecast, ...]:
    """Makes the plan's forecasts, one for every range of steps that has one."""
    return tuple(
        PlanForecast(
            measured.named[option.name],
            at.start,
            at.end,
            option.error,
            option.seconds,
            measured.forecasts[at][0].seconds,
        )  # fmt: skip
        for at, option in choice.steps.items()
        if option.name != EXACT
    )


def plan_rules_of(choice: WholeChoice, measured: Measured) -> tuple[PlanRule, ...]:
    """Makes the plan's rules, one for every part that leaves the exact attention."""
    return tuple(
        PlanRule(
            measured.named[option.name],
            part.role,
            part.blocks,
            part.start,
            part.end,
            option.error,
            option.local,
            option.effect,
            option.seconds,
            measured.options[part][0].seconds,
        )  # fmt: skip
        for part, option in choice.parts.items()
        if option.name != EXACT
    )
