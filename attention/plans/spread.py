"""What error other prompts will have, told by those of a few: a quantile, and the margin that few prompts ask for."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import NormalDist, fmean

# Of all prompts so many stay at or below what is predicted.
QUANTILE = 0.95
# Errors of one plan, from prompt to prompt, are spread like this in their logarithm (standard deviation), which is
# believed as much as so many prompts beyond the first. The demo model, kernels and patterns: 0.22 to 0.39 in nine
# plans.
USUAL, BELIEVED = 0.33, 4
# The same where steps are forecast or outputs kept: up to 1.1 on latents of an eighth of its size, far less at its own.
WIDE = 0.5
# Of the largest: smaller errors count as this, since a logarithm knows no 0.
LEAST = 1e-3


def predict_quantile(errors: Sequence[float], others: Sequence[Sequence[float]] = (), usual: float = USUAL) -> float:
    """Predict the error that QUANTILE of all prompts stay below.

    errors: of one plan, on each of some prompts or seeds.
    others: the same of other plans on the same prompts; they tell of the spread alone.
    usual: spread of such plans, USUAL or WIDE.

    Errors are taken to be log-normal over prompts. With n of them the next one is as Student's t says, scaled by
    sqrt(1 + 1/n); its variance is what was measured together with `usual`, the scaled inverse chi-squared prior of
    normal data (Gelman et al., "Bayesian Data Analysis", 3.3).
    """
    if not errors or not max(errors):
        return 0.0
    logs = _logs(errors)
    measured = fmean(_squares(_logs(each)) for each in (errors, *others) if len(each) == len(errors) and max(each))
    freedom = BELIEVED + len(logs) - 1
    spread = sqrt((BELIEVED * usual**2 + measured) / freedom)
    return exp(fmean(logs) + student(QUANTILE, freedom) * spread * sqrt(1.0 + 1.0 / len(logs)))


def _logs(errors: Sequence[float]) -> list[float]:
    least = LEAST * max(errors)
    return [log(max(error, least)) for error in errors]


def _squares(logs: Sequence[float]) -> float:
    middle = fmean(logs)
    return sum((one - middle) ** 2 for one in logs)


def student(share: float, freedom: float) -> float:
    """Return the quantile of Student's t, by its expansion around the normal one (Abramowitz and Stegun, 26.7.5).

    share: 0 to 1.
    freedom: degrees of it; the expansion is within 0.5 % from 4 on, for shares from 0.6 to 0.95.
    """
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
