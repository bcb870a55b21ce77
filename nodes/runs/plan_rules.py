"""A plan on a MODEL: its rules and its forecasts."""

from __future__ import annotations

from ...attention.plans.plan import Plan
from ..host import forecast, model_rules


def install_plan(model, plan: Plan) -> tuple:
    """Puts a plan on a clone of the MODEL `model`; gives it, and a sentence about its forecasts where it has some."""
    planned = model_rules.add_rules(model, plan.rules())
    if not plan.forecasts:
        return planned, []
    try:
        planned = forecast.install_spans(planned, plan.spans(), plan.budget)
    except ValueError as error:
        return planned, [f"No step is forecast: {str(error).removeprefix('model: ')}"]
    ranges = ", ".join(f"{one.start:.0%} to {one.end:.0%}".replace("%", " %") for one in plan.forecasts)
    return planned, [f"Steps are forecast from {ranges} of the sampling."]
