"""The two ways to forecast: each is a weighted sum of what was computed, and here are the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .settings import TAYLOR, ForecastSettings


def weights(settings: ForecastSettings, times: Sequence[float], target: float) -> list[float]:
    """Return what each computed value counts in the forecast at a time; together 1.

    settings: the method, degree and ridge.
    times: of the computed values, no two alike; the last one is the newest.
    target: when the forecast is for, in the same unit.
    """
    if settings.method == TAYLOR:
        used = min(len(times), settings.degree + 1)
        return [0.0] * (len(times) - used) + differences(times[-used:], target)
    return chebyshev(times, target, settings.degree, settings.ridge)


def differences(times: Sequence[float], target: float) -> list[float]:
    """Return the weights of Taylor's series whose derivatives are finite differences, as TaylorSeer has them.

    Divided differences, so that steps may be unevenly spaced: the polynomial through all values, exact for any
    polynomial of a degree below their number.

    times: of the values, no two alike.
    target: when the forecast is for.
    Source: https://arxiv.org/abs/2503.06923
    """
    found = []
    for i, own in enumerate(times):
        others = [(target - other) / (own - other) for j, other in enumerate(times) if j != i]
        found.append(float(np.prod(others)))
    return found


def chebyshev(times: Sequence[float], target: float, degree: int, ridge: float) -> list[float]:
    """Return the weights of a polynomial in Chebyshev's basis, fitted to all values by ridge regression.

    The penalty leaves the constant alone, so that what stands still is forecast as it is.

    times: of the values, no two alike.
    target: when the forecast is for.
    degree: of the polynomial, lowered to what the values determine.
    ridge: penalty on each coefficient but the first, for one value; 0 for least squares.
    Source: Spectrum, https://arxiv.org/abs/2603.01623
    """
    points = np.array([*times, target], dtype=np.float64)
    middle, half = (points.max() + points.min()) / 2, (points.max() - points.min()) / 2 or 1.0
    degree = min(degree, len(times) - 1)
    basis = np.polynomial.chebyshev.chebvander((points - middle) / half, degree)
    known, wanted = basis[:-1], basis[-1]
    penalty = np.diag([0.0] + [(ridge * len(times)) ** 0.5] * degree)
    # Least squares of the values with the penalty's rows below them: steadier than the normal equations.
    solved = np.linalg.pinv(np.vstack([known, penalty]))[:, : len(times)]
    return [float(weight) for weight in wanted @ solved]
