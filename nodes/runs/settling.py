"""Chooses a plan from what was measured, runs it on every seed, and corrects the prediction by what that gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...attention.core.peak_memory import most_of
from ...attention.forecast import ForecastSpan
from ...attention.plans.calibrate import EXACT, predict
from ...attention.plans.choose_whole import Choices, WholeChoice, all_exact
from ...attention.plans.plan import PlanForecast, PlanRule
from ...attention.plans.spread import USUAL, WIDE, predict_quantile
from ...attention.plans.step_times import time_of
from ...attention.routing.rules import Rule
from .measured import Measured
from .repeated_sampling import Sampling, distance

# Runs of a chosen plan before the search for one is given up, and choices, most of which are of plans that have run.
ROUNDS, CHOICES = 8, 40
# Two limits of the error that differ by less choose alike.
ALIKE = 1.02
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


@dataclass
class _Search:
    """Looks for what the errors of all parts may come to, so that the plan's own error is just within the budget.

    budget: of the plan's own error.
    wanted: what to choose within next.
    low, high: within which a plan kept the budget, and within which one did not.
    """

    budget: float
    wanted: float
    low: float = 0.0
    high: float = math.inf

    def note(self, kept: bool, raw: float, error: float) -> None:
        """Notes what became of a plan: `error` of its own where its parts' put together are `raw`."""
        self._narrow(kept, raw)
        # As this one's errors came together. Large ones grow faster than in proportion: down by half at least.
        guess = self.budget * raw / error if error else math.inf
        self._go_on(guess if self.low else min(guess, self.high / 2))

    def pass_over(self, kept: bool) -> None:
        """Notes that what was chosen is a plan that is known."""
        self._narrow(kept, self.wanted)
        self._go_on(0.0)

    @property
    def over(self) -> bool:
        """Tells whether there is nothing left between what kept the budget and what did not."""
        return self.high <= self.low * ALIKE or math.isinf(self.wanted) or not self.wanted

    def _narrow(self, kept: bool, raw: float) -> None:
        if kept:
            self.low = max(self.low, raw, self.wanted)
        else:
            self.high = min(self.high, raw, self.wanted)

    def _go_on(self, guess: float) -> None:
        if self.low < guess < self.high:
            self.wanted = guess
        elif math.isinf(self.high):
            self.wanted = min(2.0 * self.low, self.budget) if self.low < self.budget else math.inf
        else:
            self.wanted = math.sqrt(self.low * self.high) if self.low else self.high / 2


def settle(sampling: Sampling, measured: Measured, budget: float) -> Settled:
    """Chooses the fastest plan that keeps the budget: chosen by prediction, then run, which corrects the prediction.

    budget: largest relative L2 of the final latent, for QUANTILE of all prompts as the seeds tell it.
    All EXACT when none kept the budget.
    """
    # Were errors as they are put together, and alike on all seeds, this margin would still be asked for.
    margin = predict_quantile([1.0] * len(measured.exact))
    kept, seen, runs, search = [], {}, [], _Search(budget, budget / margin)
    choices = Choices(measured.options, measured.steps, measured.even, measured.together)
    for turn in range(CHOICES):
        if (turn and search.over) or len(runs) == ROUNDS:
            break
        choice = choices.within(search.wanted)
        taken = tuple(
            sorted((part.text, option.name) for part, option in choice.chosen.items() if option.name != EXACT)
        )
        if not taken or taken in seen:
            search.pass_over(seen.get(taken, True))
            continue
        found, error = _try(sampling, measured, choice, taken, runs)
        runs.append(found.errors)
        seen[taken] = error <= budget
        if seen[taken]:
            kept.append(found)
        if NEAR * budget <= error <= budget or not choice.error:
            break
        search.note(seen[taken], choice.error, error)
    none = [0.0] * len(measured.exact)
    exact = Settled(all_exact(measured.options, measured.steps), none, measured.times, measured.peak)
    return _bounded(choices, min(kept, key=lambda one: one.choice.whole, default=exact), budget)


def _bounded(choices: Choices, found: Settled, budget: float) -> Settled:
    """Bounds what any choice within the budget could take, were its errors to come together as this one's did."""
    choice = found.choice
    raw = predict(option.error for option in choice.chosen.values())
    within = budget * raw / choice.error if choice.error else budget
    return replace(found, choice=replace(choice, bound=min(choices.within(within).bound, choice.whole)))


def _try(sampling: Sampling, measured: Measured, choice: WholeChoice, taken: tuple, runs) -> tuple[Settled, float]:
    """Runs a plan on every seed. Returns what it gave, and the error that is predicted for QUANTILE of all prompts.

    taken: what names it.
    runs: errors of other plans on each seed.
    """
    # Chunks change what is rounded.
    key = (measured.memory, *taken)
    sampling.expect(len(measured.exact))
    rules = tuple(step.rule() for step in plan_rules_of(choice, measured))
    spans = tuple(one.span() for one in plan_forecasts_of(choice, measured))
    ran = [_run(sampling, key, rules, spans, more, exact) for more, exact in enumerate(measured.exact)]
    errors, times, peaks = map(list, zip(*ran, strict=True))
    wide = WIDE if spans or any(rule.reuse is not None for rule in rules) else USUAL
    error = predict_quantile(errors, runs, wide)
    return Settled(replace(choice, error=error), errors, times, most_of(peaks)), error


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
