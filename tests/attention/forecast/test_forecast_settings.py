"""What can be asked of a forecast."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from attention.forecast import METHODS, ForecastSettings


def test_defaults_are_valid_and_fixed():
    settings = ForecastSettings()
    assert settings.method in METHODS and settings == ForecastSettings()
    with pytest.raises(FrozenInstanceError):
        settings.degree = 3


@pytest.mark.parametrize(
    "name, value",
    [
        ("method", "fourier"),
        ("degree", -1),
        ("warm_up", 0),
        ("last", -1),
        ("in_a_row", -1),
        ("history", 0),
        ("max_error", -0.1),
        ("max_error", float("nan")),
        ("ridge", float("inf")),
    ],
)
def test_bad_values_name_the_field_and_the_value(name, value):
    with pytest.raises(ValueError, match=f"^{name}: .*{value}"):
        replace(ForecastSettings(), **{name: value})
