"""A calibration as plain data, for the page: every option of every part, the chosen one, the budget."""

from __future__ import annotations

import math

from ..core.peak_memory import as_mib
from .calibrate import PlanOption, PlanPart
from .choose_whole import WholeChoice
from .plan import Plan


def as_data(plan: Plan, measured, choice: WholeChoice) -> dict:
    """Return plain data, for JSON, which knows no infinity.

    measured: has `every`, part -> PlanOptions, `dropped`, what -> why it was left out, and `memory`, the budget of a
        call in MiB.
    """
    return {
        "budget": plan.budget,
        "error": _number(plan.error),
        "realised": _number(plan.realised),
        "seconds": plan.seconds,
        "exact_seconds": plan.exact_seconds,
        "whole_seconds": plan.whole_seconds,
        "whole_exact_seconds": plan.whole_exact_seconds,
        "bound": _number(choice.bound),
        "memory": measured.memory,
        "parts": [_part(part, options, choice.of(part, options)) for part, options in measured.every.items()],
        "dropped": [{"what": what, "reason": str(reason)} for what, reason in measured.dropped.items()],
    }


def _part(part: PlanPart, options: list[PlanOption], chosen: PlanOption) -> dict:
    # The chosen one may have been measured once more, as an object of its own.
    found = [option.name for option in options]
    return {
        "text": part.text,
        "role": part.role,
        "blocks": list(part.blocks),
        "start": part.start,
        "end": part.end,
        "options": [_option(option) for option in options],
        "chosen": found.index(chosen.name),
    }


def _option(option: PlanOption) -> dict:
    figures = {"error": option.error, "local": option.local, "effect": option.effect}
    found = {"name": option.name, "seconds": option.seconds, **{name: _number(v) for name, v in figures.items()}}
    return {**found, "peak_mib": as_mib(option.peak), "chunks": option.chunks, "over": option.over}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
