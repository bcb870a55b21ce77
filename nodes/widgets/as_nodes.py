"""A rule as the values of the node that makes it: what a prompt would have to say for the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from ...attention.forecast import ForecastSettings
from ...attention.patterns.ramp import CONSTANT
from ...attention.routing.rules import Rule
from . import pattern_inputs
from .pattern_reach import with_singles

BACKEND, PATTERN, FORECAST = "VideoAttentionBackend", "VideoAttentionPattern", "VideoAttentionForecast"
REUSE = "VideoAttentionReuse"
# Widgets whose name is not that of the pattern's field.
FIELDS = {"token_order": "order", pattern_inputs.TIME: "frames", "spatial_weight": "weight"}


def of_all(rules: Iterable[Rule], forecast: ForecastSettings | None = None) -> list[dict]:
    """Lists the nodes that make these rules and this forecast, in the order to wire them; those that one can make."""
    found = [of_rule(rule) for rule in rules]
    return [*filter(None, found), *([] if forecast is None else [of_forecast(forecast)])]


def of_forecast(settings: ForecastSettings) -> dict:
    """Gives {class_type, inputs} of the node that forecasts so."""
    values = asdict(settings)
    named = {"first_steps": values.pop("warm_up"), "last_steps": values.pop("last")}
    return {"class_type": FORECAST, "inputs": {"enabled": True, **values, **named}}


def of_rule(rule: Rule) -> dict | None:
    """Gives {class_type, inputs} of the node that makes this rule, without its model; None where none makes it so.

    Of a dynamic combo the inputs stand as in a prompt: `pattern`, `pattern.keep`.
    """
    if rule.kind not in ("", "shape", "reuse"):
        return None
    shared = {
        "blocks": ",".join(map(_span, rule.blocks)),
        "start_percent": rule.start,
        "end_percent": rule.end,
        "on_unsupported": rule.on_unsupported,
    }
    if rule.kind == "reuse":
        return {"class_type": REUSE, "inputs": {"enabled": True, "role": rule.role, **asdict(rule.reuse), **shared}}
    shared |= {
        "guard": rule.guard,
        "timing": rule.timing,
        "auto_choice": rule.choice,
        **{name: getattr(rule, name) for name in ("max_error", "memory")},
    }
    if not rule.kind:
        return {"class_type": BACKEND, "inputs": {"backend": rule.backend, "role": rule.role, **shared}}
    shape, choice = rule.shape, choice_of(rule.shape.pattern)
    if choice is None:
        return None
    named = {"pattern": choice.pop("pattern"), **{f"pattern.{key}": value for key, value in choice.items()}}
    own = {
        "time_unit": pattern_inputs.LATENT,
        "combine": pattern_inputs.REPLACE,
        "dense_first_steps": rule.spared[0],
        "dense_last_steps": rule.spared[1],
        "min_tokens": shape.min_tokens,
        "engine": shape.engine,
        **_ramp_of(shape),
        "if_faster": shape.if_faster,
        "refresh_overlap": shape.refresh_overlap,
        "single_tokens": getattr(shape.pattern, "singles", 0),
    }
    return {"class_type": PATTERN, "inputs": {**named, **own, **shared}}


def _ramp_of(shape) -> dict:
    if shape.ramp is None:
        return {"ramp": CONSTANT}
    return {"ramp": shape.ramp.shape, "tau_end" if hasattr(shape.pattern, "threshold") else "keep_end": shape.ramp.end}


def choice_of(pattern) -> dict | None:
    """Gives the value of the dynamic combo that makes a pattern: {"pattern": name, widget: value}; None for none."""
    if pattern.name not in pattern_inputs.CHOICES:
        return None
    widgets, make = pattern_inputs.CHOICES[pattern.name]
    values = {widget.id: getattr(pattern, FIELDS.get(widget.id, widget.id), None) for widget in widgets}
    if "blocks_do" in values:
        both = values["spatial_weight"] is not None
        values |= {"blocks_do": "both" if both else "alternate", "spatial_weight": values["spatial_weight"] or 0.5}
    # Singles are a widget of the node's own.
    made = with_singles(make(**values), getattr(pattern, "singles", 0))
    return {"pattern": pattern.name, **values} if made == pattern else None


def _span(span: tuple[int, int | None]) -> str:
    first, last = span
    return f"{first}-" if last is None else str(first) if first == last else f"{first}-{last}"
