"""The weights of a forecast, against polynomials and against a fit made another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attention.forecast import CHEBYSHEV, METHODS, TAYLOR, ForecastSettings
from attention.forecast.history import History, relative_error, weighted_sum
from attention.forecast.polynomial import chebyshev, weights

# Uneven on purpose: steps between computed ones are forecast.
TIMES = (0.0, 1.0, 2.0, 5.0, 6.0, 9.0)


def settings(method: str, degree: int, **more) -> ForecastSettings:
    return replace(ForecastSettings(), method=method, degree=degree, history=6, **{"ridge": 0.0, **more})


def polynomial(degree: int, dtype, seed: int = 0):
    """A trajectory: time -> (3, 5, 7), each number a polynomial of its own."""
    made = torch.randn(degree + 1, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return lambda time: sum(part * (time / 10) ** power for power, part in enumerate(made)).to(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("dtype, bound", [(torch.float64, 1e-11), (torch.float32, 1e-5), (torch.bfloat16, 0.06)])
@pytest.mark.parametrize("target", [10.0, 11.0, 12.5])
def test_polynomials_are_forecast(method, degree, dtype, bound, target):
    history, at = History(settings(method, degree)), polynomial(degree, dtype, degree)
    for time in TIMES:
        history.push("prompt", time, (at(time),))
    (made,) = history.forecast("prompt", target)
    assert made.dtype == dtype
    true = polynomial(degree, torch.float64, degree)(target)
    # What rounding each value costs grows with the weights, by any method.
    grown = sum(map(abs, weights(settings(method, degree), TIMES, target)))
    assert (made.double() - true).norm() / true.norm() < bound * max(1.0, grown / 8)


@pytest.mark.parametrize("method", METHODS)
def test_a_degree_more_is_needed_for_a_polynomial_of_a_degree_more(method):
    history, at = History(settings(method, 1)), polynomial(2, torch.float64)
    for time in TIMES:
        history.push("prompt", time, (at(time),))
    (made,) = history.forecast("prompt", 12.0)
    assert (made - at(12.0)).norm() / at(12.0).norm() > 1e-2


steps = st.lists(st.integers(0, 60), min_size=2, max_size=8, unique=True).map(sorted)


@given(steps, st.integers(1, 4), st.integers(0, 4), st.sampled_from(METHODS), st.sampled_from([0.0, 0.1, 3.0]))
def test_what_stands_still_is_forecast_as_it_is(times, ahead, degree, method, ridge):
    found = weights(settings(method, degree, ridge=ridge), [float(t) for t in times], times[-1] + ahead)
    assert len(found) == len(times) and sum(found) == pytest.approx(1.0, abs=1e-7)


@given(steps, st.integers(1, 4), st.integers(0, 3))
def test_least_squares_is_numpys_own_fit(times, ahead, degree):
    degree, target = min(degree, len(times) - 1), float(times[-1] + ahead)
    values = np.sin(np.array(times))
    fitted = np.polynomial.Polynomial.fit(times, values, degree)(target)
    made = np.dot(chebyshev([float(t) for t in times], target, degree, 0.0), values)
    assert made == pytest.approx(fitted, rel=1e-5, abs=1e-6)


def test_ridge_draws_to_the_mean():
    values = [1.0, 2.0, 4.0]
    made = [np.dot(chebyshev([0.0, 1.0, 2.0], 3.0, 2, ridge), values) for ridge in (0.0, 0.1, 10.0, 1e9)]
    assert made[0] == pytest.approx(7.0) and max(made[1:]) < 7.0
    assert made[-1] == pytest.approx(np.mean(values), abs=1e-4)


def test_ridge_is_the_penalty_for_one_value():
    """By hand: times 0, 1 and 2 stand at -1, 0 and 1, and a line's slope is 0.5 / (0.5 + 2 ridge) of the step."""
    made = weights(settings(CHEBYSHEV, 1, ridge=0.25), [0.0, 1.0], 2.0)
    assert made == pytest.approx([0.5 - 1.5 * 0.5, 0.5 + 1.5 * 0.5])


@given(steps, st.integers(1, 4), st.integers(1, 3), st.floats(0.01, 3.0))
def test_ridge_regression_is_what_the_normal_equations_give(times, ahead, degree, ridge):
    degree, target = min(degree, len(times) - 1), float(times[-1] + ahead)
    places = 2 * (np.array([*times, target]) - times[0]) / (target - times[0]) - 1
    known, wanted = np.polynomial.chebyshev.chebvander(places, degree)[:-1], np.ones(degree + 1)
    penalty = ridge * len(times) * np.diag([0.0] + [1.0] * degree)
    truth = wanted @ np.linalg.solve(known.T @ known + penalty, known.T)
    assert chebyshev([float(t) for t in times], target, degree, ridge) == pytest.approx(truth, rel=1e-6, abs=1e-8)


def test_taylor_looks_at_the_newest_alone():
    found = weights(settings(TAYLOR, 1), TIMES, 10.0)
    assert found[:4] == [0.0] * 4 and found[4:] == pytest.approx([-1 / 3, 4 / 3])


def test_too_few_values_lower_the_degree():
    assert weights(settings(CHEBYSHEV, 3), [4.0], 6.0) == pytest.approx([1.0])
    assert weights(settings(TAYLOR, 3), [3.0, 4.0], 6.0) == pytest.approx([-2.0, 3.0])


def test_a_sum_is_made_in_float32_and_not_in_place():
    parts = [torch.full((4,), value, dtype=torch.bfloat16) for value in (1.0, 256.0, 255.0)]
    made = weighted_sum(list(zip((1.0, 1.0, -1.0), parts)), torch.device("cpu"))
    # In bfloat16 alone 1 + 256 is 256.
    assert made.dtype == torch.bfloat16 and made.tolist() == [2.0] * 4
    assert [part[0].item() for part in parts] == [1.0, 256.0, 255.0]


def test_errors_are_relative_and_the_largest_of_all_streams():
    video, sound = torch.ones(10), torch.full((10,), 2.0)
    assert relative_error((video, sound), (video, sound)).item() == 0.0
    assert relative_error((video, sound * 1.5), (video, sound)).item() == pytest.approx(0.5)
    assert relative_error((video, sound), (torch.zeros(10), sound)).item() == pytest.approx(10**0.5)
    assert relative_error((video,), (torch.full((10,), torch.nan),)).isnan()
