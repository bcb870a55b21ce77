"""Forecasts of several ranges together: beside the schedule gone through as one, and every choice that there is."""

from __future__ import annotations

import itertools
import math
from functools import cached_property
from math import sqrt
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.forecast import ForecastSettings
from attention.forecast.history import History
from attention.forecast.schedule import StepSchedule
from attention.plans.calibrate import EXACT, PlanOption, PlanPart
from attention.plans.choose_whole import Choices, choose_whole, range_of
from attention.plans.steps_together import StepsTogether

NONE = ForecastSettings(in_a_row=0)
EACH = 0.1  # seconds of a forecast step; a computed one takes 1
ways = st.builds(
    ForecastSettings,
    in_a_row=st.integers(1, 12),
    warm_up=st.integers(1, 3),
    last=st.integers(0, 2),
    max_error=st.just(0.0),
)


@st.composite
def samplings(draw):
    """(StepsTogether, options of each range): ranges of some steps, ways to forecast with the time of each alone."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=2, max_size=3))
    edges = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    ranges = {range_of(a / edges[-1], b / edges[-1]): list(range(a, b)) for a, b in zip(edges, edges[1:])}
    named = {f"f{i}": one for i, one in enumerate(draw(st.lists(ways, min_size=1, max_size=3)))}
    together = StepsTogether(ranges, named, draw(st.sampled_from([None, 1, 4])))
    options = {}
    for at, steps in ranges.items():
        options[at] = [PlanOption(EXACT, float(len(steps)), 0.0)]
        for name in named:
            made = together.alone(at, name)
            if made:
                options[at].append(PlanOption(name, len(steps) - (1 - EACH) * len(made), draw(st.floats(0.01, 1.0))))
    return together, options


def made_by(together: StepsTogether, taken: dict) -> list[int]:
    """The steps that one schedule over the whole run forecasts, with what it remembers."""
    each = [together.settings.get(taken[at].name, NONE) for at, steps in together.ranges.items() for _ in steps]
    schedule, made = StepSchedule(each, together.most), []
    history = History(each[0], *each)
    for step, now in enumerate(each):
        history.settings, planned = now, schedule.forecasts(step)
        if planned and history.is_ready("prompt"):
            made.append(step)
        else:
            history.push("prompt", step, (torch.zeros(1),))
        schedule.note_forecast() if planned else schedule.note_computed()
    return made


@settings(max_examples=80, deadline=None)
@given(samplings())
def test_shares_are_those_of_one_schedule(found):
    together, options = found
    for taken, shares, _ in together.fronts(options, dict.fromkeys(options, 0.0)):
        made = made_by(together, taken)
        for at, steps in together.ranges.items():
            inside = sum(step in steps for step in made)
            assert shares[at] * len(steps) == pytest.approx(len(steps) - (1 - EACH) * inside)


@settings(max_examples=80, deadline=None)
@given(samplings(), st.floats(0.0, 2.0))
def test_the_fastest_within_the_budget(found, budget):
    together, options = found
    choice = choose_whole({}, options, budget, together=together)

    def seconds(taken) -> float:
        return together.steps - (1 - EACH) * len(made_by(together, taken))

    every = [dict(zip(options, taken)) for taken in itertools.product(*options.values())]
    errors = [sqrt(sum(option.error**2 for option in taken.values())) for taken in every]
    # An error that is the budget itself may be rounded to either side.
    low, high = (
        min(seconds(taken) for taken, error in zip(every, errors) if error <= budget * (1 + more))
        for more in (1e-9, -1e-9)
    )
    assert low - 1e-9 <= choice.whole <= high + 1e-9 and choice.whole == pytest.approx(seconds(choice.steps))
    assert choice.error <= budget * (1 + 1e-9) + 1e-12 and choice.bound <= high + 1e-9


def test_a_row_goes_on_from_range_to_range():
    """Each range alone begins behind a computed step; behind a row of forecasts it computes first."""
    ranges = {range_of(0.0, 0.5): [0, 1, 2, 3], range_of(0.5, 1.0): [4, 5, 6, 7]}
    two = ForecastSettings(in_a_row=2, warm_up=2, last=0, max_error=0.0)
    together = StepsTogether(ranges, {"two": two})
    first, second = ranges
    assert together.alone(first, "two") == [2, 3] and together.alone(second, "two") == [4, 5, 7]
    options = {at: [PlanOption(EXACT, 4.0, 0.0), PlanOption("two", left, 0.01)] for at, left in zip(ranges, (2.0, 1.0))}
    assert choose_whole({}, options, 1.0).whole == 3.0
    assert choose_whole({}, options, 1.0, together=together).whole == 4.0


def test_attention_shares_what_is_left():
    ranges = {range_of(0.0, 0.5): [0, 1, 2, 3], range_of(0.5, 1.0): [4, 5, 6, 7]}
    two = ForecastSettings(in_a_row=2, warm_up=2, last=0, max_error=0.0)
    first, second = ranges
    options = {at: [PlanOption(EXACT, 4.0, 0.0), PlanOption("two", left, 0.01)] for at, left in zip(ranges, (2.0, 1.0))}
    part = PlanPart("self", (0, 3), second.start, second.end)
    parts = {part: [PlanOption(EXACT, 2.0, 0.0), PlanOption("fast", 1.0, 0.001)]}
    choice = choose_whole(parts, options, 1.0, together=StepsTogether(ranges, {"two": two}))
    assert choice.seconds == pytest.approx(0.5) and choice.whole == pytest.approx(2.0 + 0.5 * (4.0 - 1.0))


def made_up(random: Random) -> tuple[StepsTogether, dict, dict]:
    """A run of some ranges, what forecasts and what attention may become there."""
    count, length = random.choice([2, 3]), random.randint(3, 6)
    ranges = {range_of(i / count, (i + 1) / count): list(range(i * length, (i + 1) * length)) for i in range(count)}
    ways = [ForecastSettings(in_a_row=random.choice([1, 2, 3, 6]), warm_up=2, max_error=0.0) for _ in range(2)]
    together = StepsTogether(ranges, dict(zip(("f0", "f1"), ways)))
    steps, parts = {}, {}
    for at in ranges:
        made = {name: len(together.alone(at, name)) for name in together.settings}
        steps[at] = [PlanOption(EXACT, float(length), 0.0)]
        steps[at] += [PlanOption(n, length - 0.9 * m, random.uniform(0.01, 0.1)) for n, m in made.items() if m]
        part = PlanPart("self", (0, 1), at.start, at.end)
        parts[part] = [PlanOption(EXACT, 0.6 * length, 0.0)]
        parts[part] += [
            PlanOption(f"k{i}", 0.6 * length * random.uniform(0.1, 0.9), random.uniform(0.001, 0.1))
            for i in range(random.randint(0, 2))
        ]
    return together, steps, parts


def test_near_the_best_of_all_with_attention():
    """Which ranges forecast decides about attention's time as well: beside every choice that there is."""
    random, far = Random(3), []
    for _ in range(60):
        together, steps, parts = made_up(random)
        budget, best = random.uniform(0.01, 0.2), math.inf
        for taken in itertools.product(*steps.values()):
            made = made_by(together, dict(zip(steps, taken)))
            left = [1 - (1 - EACH) * sum(step in own for step in made) / len(own) for own in together.ranges.values()]
            for run in itertools.product(*parts.values()):
                if sum(one.error**2 for one in (*taken, *run)) <= budget**2:
                    length = together.steps / len(left)
                    best = min(best, sum(s * (0.4 * length + one.seconds) for s, one in zip(left, run)))
        choice = choose_whole(parts, steps, budget, together=together)
        assert choice.error <= budget * (1 + 1e-9) and choice.bound <= best + 1e-9
        far.append(choice.whole / best)
    assert min(far) > 1 - 1e-6 and max(far) < 1.2 and sum(one > 1.03 for one in far) < 3


@settings(max_examples=20, deadline=None)
@given(samplings(), st.lists(st.floats(0.0, 2.0), min_size=2, max_size=4))
def test_what_does_not_depend_on_the_budget_is_found_once(found, budgets):
    together, options = found
    counted = Counted(together.ranges, together.settings, together.most)
    choices = Choices({}, options, together=counted)
    assert [choices.within(budget) for budget in budgets] == [
        choose_whole({}, options, budget, together=together) for budget in budgets
    ]
    assert counted.searches == [options]


class Counted(StepsTogether):
    """Notes each search."""

    @cached_property
    def searches(self) -> list:
        return []

    def fronts(self, options, least):
        self.searches.append(options)
        return super().fronts(options, least)
