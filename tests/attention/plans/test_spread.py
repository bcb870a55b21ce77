"""The error that nearly all other prompts stay below, and the time of samplings, told by a few."""

from __future__ import annotations

import numpy as np
import pytest

from attention.inspect.timeline import StepStats
from attention.plans.spread import QUANTILE, WIDE, predict_quantile, student
from attention.plans.step_times import cost_of_forecasts, time_of


def test_students_t():
    # Abramowitz and Stegun, table 26.10.
    for freedom, value in {4: 1.533, 5: 1.476, 10: 1.372, 30: 1.310}.items():
        assert student(0.9, freedom) == pytest.approx(value, abs=1e-3)
    assert student(0.75, 5) == pytest.approx(0.727, abs=1e-3) and student(0.5, 7) == 0.0


@pytest.mark.parametrize("known", [1, 2, 4, 8])
@pytest.mark.parametrize("spread", [0.2, 0.33, 0.5])
def test_so_many_prompts_stay_below(known, spread):
    """Of made-up prompts whose spread nobody tells."""
    rng = np.random.default_rng(5)
    errors = 0.02 * np.exp(spread * rng.standard_normal((2000, known + 1)))
    below = np.mean([row[-1] <= predict_quantile(row[:-1]) for row in errors.tolist()])
    # A wider spread than usual is believed the more prompts tell of it.
    assert below >= QUANTILE - (0.015 if spread < 0.4 else 0.09 if known < 8 else 0.06)
    assert below <= 0.999 or known == 1


def test_the_margin_shrinks_with_more_prompts_and_less_spread():
    margins = [predict_quantile([0.01] * count) / 0.01 for count in (1, 2, 4, 16)]
    assert margins == sorted(margins, reverse=True) and 2.8 > margins[0] > 2.7 and margins[-1] < 1.4
    # Where steps are forecast little is taken for granted.
    wide = [predict_quantile([0.01] * count, usual=WIDE) / 0.01 for count in (1, 2, 4, 16)]
    assert wide == sorted(wide, reverse=True) and all(far > near for far, near in zip(wide, margins))
    assert predict_quantile([0.01, 0.04]) > predict_quantile([0.02, 0.02])
    apart = predict_quantile([0.02, 0.02], [[0.01, 0.04]])
    assert predict_quantile([0.02, 0.02]) < apart, "another plan on the same prompts tells of the spread"
    assert apart == predict_quantile([0.02, 0.02], [[0.01, 0.04], [0.1], [0.0, 0.0]])


@pytest.mark.parametrize("spread", [0.25, 0.5, 0.9])
def test_most_prompts_are_near_the_prediction_of_a_wide_plan(spread):
    """15 of 16 within 1.5 times of it, with eight known prompts, in nearly every plan."""
    rng = np.random.default_rng(6)
    errors = 0.02 * np.exp(spread * rng.standard_normal((1000, 8 + 16)))
    predicted = np.array([predict_quantile(row, usual=WIDE) for row in errors[:, :8].tolist()])
    near = (errors[:, 8:] <= 1.5 * predicted[:, None]).sum(1) >= 15
    assert near.mean() > (0.97 if spread < 0.6 else 0.88)


def test_no_error_is_predicted_to_be_none():
    assert predict_quantile([]) == predict_quantile([0.0, 0.0]) == 0.0
    assert 0.0 < predict_quantile([0.0, 1e-9]) < 1e-6


def step(number: int, seconds: float, attention: float = 0.0, forecast: int = 0, used: str = "host") -> StepStats:
    row = ("self", used)
    calls = {} if forecast else {row: 4}
    return StepStats(number, seconds, calls, {row: attention} if attention else {}, forecast)


def test_the_time_of_a_sampling():
    # The first step loads; the fourth was slow; the last two ran a pattern.
    steps = [step(1, 9.0, 1.0), step(2, 2.0, 1.0), step(3, 2.1, 1.1), step(4, 4.0, 1.0)]
    steps += [step(5, 1.0, 0.1, used="spatial"), step(6, 1.0, 0.1, used="spatial")]
    found = time_of(steps)
    assert found.seconds == pytest.approx(4 * 2.1 + 2.0) and found.attention == pytest.approx(4 * 1.0 + 0.2)
    assert found.share == pytest.approx(4.2 / 10.4)
    assert time_of([]).seconds == 0.0 and time_of([]).share == 0.0 and time_of([step(1, 3.0)]).seconds == 3.0


def test_what_forecasts_leave_of_the_time():
    steps = [step(1, 9.0), step(2, 2.0), step(3, 0.2, forecast=1), step(4, 0.2, forecast=1), step(5, 2.0)]
    assert time_of(steps).seconds == pytest.approx(3 * 2.0 + 2 * 0.2)
    assert cost_of_forecasts(steps, [2, 3, 4]) == pytest.approx((2.0 + 0.4) / 6.0)
    assert cost_of_forecasts(steps, [0, 1]) == 1.0 == cost_of_forecasts(steps[:2], [0, 1]) == cost_of_forecasts([], [])
