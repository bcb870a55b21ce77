"""Evaluations of a model that are forecast from computed ones: the arithmetic, and which steps."""

from .settings import CHEBYSHEV, METHODS, TAYLOR, ForecastSettings, ForecastSpan

__all__ = ("CHEBYSHEV", "METHODS", "TAYLOR", "ForecastSettings", "ForecastSpan")
