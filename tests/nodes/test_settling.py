"""How a plan is settled: what was chosen runs, and the search goes on between what kept the budget and what did not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attention.plans.calibrate import EXACT, PlanOption, PlanPart
from attention.plans.choose_whole import WholeChoice

# Nothing of `lab` that an example changes outlives it.
pure = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PART = PlanPart("self", (0, 3), 0.0, 1.0)


class Made:
    """A calibration whose plans are made up: of each the error put together of its parts, and the one that it has."""

    def __init__(self, lab, monkeypatch, plans):
        self.settling, self.ran = lab.pack.nodes.runs.settling, []
        # More error, less time; exact is the first.
        self.plans = [(0.0, 0.0), *sorted(plans)]
        monkeypatch.setattr(self.settling, "Choices", lambda *_: SimpleNamespace(within=self.choose))
        monkeypatch.setattr(self.settling, "all_exact", lambda *_: self.choice(0))
        monkeypatch.setattr(self.settling, "_try", self.run)

    def choice(self, number: int) -> WholeChoice:
        raw, seconds = self.plans[number][0], 100.0 - number
        option = PlanOption(f"plan {number}" if number else EXACT, seconds, raw)
        return WholeChoice({PART: option}, {}, raw, seconds, seconds, 0.0)

    def choose(self, budget):
        return self.choice(max(i for i, (raw, _) in enumerate(self.plans) if raw <= budget))

    def run(self, sampling, measured, choice, taken, runs):
        number = int(choice.parts[PART].name.removeprefix("plan "))
        self.ran.append(number)
        return self.settling.Settled(choice, [self.plans[number][1]], [1.0]), self.plans[number][1]

    def settle(self, budget: float) -> int:
        measured = SimpleNamespace(options={}, steps={}, even=(), together=None, exact=[None], times=[1.0], peak=None)
        found = self.settling.settle(None, measured, budget)
        return round(100.0 - found.choice.whole)


def test_the_plan_between_is_found(lab, monkeypatch):
    """The first uses little of the budget, the next one is far over: each by its proportion leads to the other."""
    made = Made(lab, monkeypatch, [(0.006, 0.019), (0.012, 0.08), (0.02, 0.3), (0.05, 1.0)])
    assert made.settle(0.1) == 2
    assert len(set(made.ran)) == len(made.ran) <= made.settling.ROUNDS


def test_nothing_keeps_the_budget(lab, monkeypatch):
    made = Made(lab, monkeypatch, [(0.01, 1.0), (0.02, 2.0)])
    assert made.settle(0.05) == 0 and 1 in made.ran


def test_what_uses_the_budget_is_the_last_to_run(lab, monkeypatch):
    made = Made(lab, monkeypatch, [(0.04, 0.045), (0.08, 0.2)])
    assert made.settle(0.05) == 1 and made.ran == [1]


@pure
@given(st.lists(st.tuples(st.floats(1e-4, 1.0), st.floats(0.3, 30.0)), max_size=12), st.floats(1e-3, 1.0))
def test_it_ends_and_keeps_the_budget(lab, plans, budget):
    with pytest.MonkeyPatch.context() as patch:
        made = Made(lab, patch, [(raw, raw * times) for raw, times in plans])
        found = made.settle(budget)
    assert made.plans[found][1] <= budget
    assert len(set(made.ran)) == len(made.ran) <= made.settling.ROUNDS
    # Of what ran the fastest that kept the budget.
    assert found == max((number for number in made.ran if made.plans[number][1] <= budget), default=0)


@pure
@given(st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=12), st.floats(1.0, 20.0), st.floats(1e-3, 1.0))
def test_in_proportion_it_finds_the_best_or_what_is_near(lab, raws, times, budget):
    """Errors that come together alike, no smaller than put together: the fastest plan, or one that uses most of it."""
    with pytest.MonkeyPatch.context() as patch:
        made = Made(lab, patch, [(raw, raw * times) for raw in raws])
        found = made.settle(budget)
    # An error that is the budget itself may be rounded to either side.
    best = max(number for number, (_, error) in enumerate(made.plans) if error <= budget * (1 - 1e-9))
    near = made.plans[found][1] >= made.settling.NEAR * budget
    assert near or made.plans[found] == made.plans[best] or made.plans[best][0] <= made.plans[found][0] * 1.05
