"""The choice of forecasts and of what runs in computed steps, together: beside every choice that there is."""

from __future__ import annotations

import itertools
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.plans.calibrate import EXACT, PlanOption, PlanPart, choose_plan
from attention.plans.choose_whole import WHOLE, all_exact, choose_whole, range_of

RANGES = (range_of(0.0, 0.5), range_of(0.5, 1.0))
amounts = st.floats(0.01, 1.0)


@st.composite
def measurements(draw):
    """Options of two parts in each range, and forecasts of the ranges."""
    options, steps = {}, {}
    for at in RANGES:
        steps[at] = [PlanOption(EXACT, 30.0, 0.0)]
        steps[at] += [PlanOption(f"f{i}", 30.0 * draw(amounts), draw(amounts)) for i in range(draw(st.integers(0, 2)))]
        for block in range(2):
            found = [PlanOption(f"k{i}", 8.0 * draw(amounts), draw(amounts)) for i in range(draw(st.integers(0, 2)))]
            options[PlanPart("self", (block, block), at.start, at.end)] = [PlanOption(EXACT, 8.0, 0.0), *found]
    return options, steps


def time_of(options, steps, chosen) -> float:
    """The whole sampling's seconds, by hand."""
    total = 0.0
    for at in RANGES:
        inside = [part for part in options if (part.start, part.end) == (at.start, at.end)]
        left = chosen[at].seconds / 30.0
        total += left * (30.0 - 8.0 * len(inside) + sum(chosen[part].seconds for part in inside))
    return total


@settings(max_examples=60, deadline=None)
@given(measurements(), st.floats(0.0, 2.0))
def test_within_the_budget_and_near_the_best(measured, budget):
    options, steps = measured
    found = choose_whole(options, steps, budget)
    chosen = {**found.parts, **found.steps}
    assert found.error <= budget * (1 + 1e-9) + 1e-12
    assert found.error == pytest.approx(sqrt(sum(option.error**2 for option in chosen.values())))
    assert found.whole == pytest.approx(time_of(options, steps, chosen))
    every = {**options, **steps}

    def best(budget: float) -> float:
        return min(
            time_of(options, steps, dict(zip(every, taken)))
            for taken in itertools.product(*every.values())
            if sum(option.error**2 for option in taken) <= budget**2
        )

    # An error that is the budget itself may be rounded to either side.
    assert found.bound - 1e-9 <= best(budget * (1 - 1e-9)) and best(budget * (1 + 1e-9)) <= found.whole + 1e-9


@given(measurements(), st.floats(0.0, 2.0))
def test_without_forecasts_it_is_the_choice_of_parts(measured, budget):
    options, steps = measured
    found = choose_whole(options, {at: options[:1] for at, options in steps.items()}, budget)
    alone = choose_plan(options, budget)
    assert found.parts == alone.chosen and found.seconds == pytest.approx(alone.seconds)
    assert found.whole == pytest.approx(60.0 - 32.0 + alone.seconds)
    assert all(option.name == EXACT for option in found.steps.values())


def test_a_forecast_takes_attention_with_it():
    part, at = PlanPart("self", (0, 3), 0.0, 0.5), RANGES[0]
    options = {part: [PlanOption(EXACT, 10.0, 0.0), PlanOption("fast", 1.0, 0.03)]}
    steps = {at: [PlanOption(EXACT, 30.0, 0.0), PlanOption("half", 15.0, 0.04)]}
    both = choose_whole(options, steps, 0.05)
    assert (both.steps[at].name, both.parts[part].name) == ("half", "fast")
    assert both.seconds == 0.5 and both.whole == 10.5 and both.error == pytest.approx(0.05)
    assert choose_whole(options, steps, 0.045).whole == 15.0
    none = all_exact(options, steps)
    assert none.whole == 30.0 and none.error == 0.0 and none.bound == 30.0


@settings(max_examples=60, deadline=None)
@given(measurements(), st.lists(st.tuples(amounts, amounts), min_size=1, max_size=3), st.floats(0.0, 2.0))
def test_even_forecasts_beside_those_of_ranges(measured, even, budget):
    """Both ways to cut the sampling are chosen for; the faster one counts, within the same budget."""
    options, steps = measured
    whole = [PlanOption(EXACT, 60.0, 0.0), *(PlanOption(f"e{i}", 60.0 * s, e) for i, (s, e) in enumerate(even))]
    found, apart = choose_whole(options, steps, budget, whole), choose_whole(options, steps, budget)
    assert found.whole <= apart.whole * 1.001 + 1e-9 and found.bound <= apart.bound + 1e-9
    assert found.error <= budget * (1 + 1e-9) + 1e-12
    attended = sum(option.seconds for option in found.parts.values())
    if WHOLE not in found.steps:
        assert found.whole == pytest.approx(time_of(options, steps, found.chosen))
    else:
        share = found.steps[WHOLE].seconds / 60.0
        assert found.whole == pytest.approx(share * (60.0 - 8.0 * len(options) + attended))
    best = min(
        one.seconds / 60.0 * (60.0 - 8.0 * len(options) + sum(option.seconds for option in taken))
        for one in whole
        for taken in itertools.product(*options.values())
        if one.error**2 + sum(option.error**2 for option in taken) <= budget**2
    )
    assert found.bound - 1e-9 <= best


def test_even_forecasts_are_taken_for_their_smaller_error():
    """Errors of ranges add up; that of all steps alike was measured as a whole."""
    part = PlanPart("self", (0, 3), 0.5, 1.0)
    options = {part: [PlanOption(EXACT, 10.0, 0.0), PlanOption("fast", 1.0, 0.03)]}
    steps = {at: [PlanOption(EXACT, 30.0, 0.0), PlanOption("six", 10.0, 0.04)] for at in RANGES}
    even = [PlanOption(EXACT, 60.0, 0.0), PlanOption("six", 20.0, 0.04)]
    found = choose_whole(options, steps, 0.05, even)
    assert {at: option.name for at, option in found.steps.items()} == {WHOLE: "six"}
    assert found.parts[part].name == "fast" and found.whole == pytest.approx((60.0 - 9.0) / 3)
    assert found.of(RANGES[0], steps[RANGES[0]]).name == EXACT and found.of(WHOLE, even).name == "six"
    assert found.error == pytest.approx(0.05)
    # Without room for both errors of ranges one of them is all that they could give.
    assert choose_whole(options, steps, 0.05).whole > 30.0
