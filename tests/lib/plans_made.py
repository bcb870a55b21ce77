"""Plans for tests, as objects and as the data of their files."""

from __future__ import annotations

import json

from attention import patterns
from attention.core.site import CROSS, SELF
from attention.forecast import CHEBYSHEV, ForecastSettings
from attention.patterns.ramp import COSINE, Ramp
from attention.plans.plan import Candidate, Plan, PlanForecast, PlanRule
from attention.plans.plan_file import PATTERNS, to_json
from attention.reuse import ReuseSettings

BY_HAND = (
    patterns.Spatial(),
    patterns.Temporal(),
    patterns.Factorised(),
    patterns.Factorised(0.25),
    patterns.TemporalWindow(3),
    patterns.SlidingTile(12, 50.0, 25.0, (2, 4, 4)),
    patterns.Neighbourhood(9, 50.0, 50.0),
    patterns.Radial(50.0, 2, first_frame=False),
    patterns.TopBlocks(25.0, "hilbert", True),
    patterns.MassBlocks(95.0),
    patterns.AdaptiveBlocks(1.3, "raster", True),
    patterns.TopBlocks(50.0, by_heads=(50.0, 12.5)),
)
# And every other pattern that a plan may hold, with its defaults.
SHAPES = (*(row() for row in PATTERNS.values() if row not in map(type, BY_HAND)), *BY_HAND)
FORECASTS = (
    PlanForecast(ForecastSettings(in_a_row=6, max_error=0.0), 0.0, 0.5, 0.001, 3.5, 7.0),
    PlanForecast(ForecastSettings(CHEBYSHEV, degree=2, offload=True), 0.5, 1.0, 0.004, 4.0, 7.0),
)


def make_step(candidate: Candidate, index: int = 0, **other) -> PlanRule:
    values = {
        "role": SELF, "blocks": (index, index + 3), "start": 0.0, "end": 0.5, "error": 0.01, "local": 0.1,
        "effect": None, "seconds": 1.5, "exact_seconds": 3.0,
    }  # fmt: skip
    return PlanRule(candidate, **{**values, **other})


def make_plan(**other) -> Plan:
    steps = [make_step(Candidate(pattern=pattern), i) for i, pattern in enumerate(BY_HAND)]
    steps.append(make_step(Candidate(pattern=patterns.TopBlocks(50.0), ramp=Ramp(15.0, COSINE)), 24))
    steps.append(make_step(Candidate(reuse=ReuseSettings(every=3)), 24))
    steps.append(make_step(Candidate(pattern=patterns.TopBlocks(50.0, refresh=4), refresh_overlap=0.9), 24))
    steps.append(make_step(Candidate("sage"), role=CROSS, start=0.25, end=1.0, effect=0.02))
    values = {
        "model": "LTXVModel", "fingerprint": "0123456789abcdef", "blocks": 28, "heads": 32, "head_dim": 64,
        "device": "NVIDIA H100", "tokens": 512, "sampling": "euler, cfg 1", "budget": 0.03, "error": 0.02,
        "realised": 0.021, "exact_seconds": 12.5, "seconds": 6.25, "versions": (("torch", "2.9"),),
        "steps": tuple(steps), "quantile": 0.9, "whole_exact_seconds": 50.0, "whole_seconds": 20.5,
        "forecasts": FORECASTS,
    }  # fmt: skip
    return Plan(**{**values, **other})


def before(**other) -> Plan:
    """A plan as versions made it that knew of no forecasts and of no outputs that are kept."""
    none = {"quantile": 0.0, "whole_exact_seconds": 0.0, "whole_seconds": 0.0, "forecasts": ()}
    new = [step.candidate.reuse or step.candidate.refresh_overlap for step in make_plan().steps]
    steps = tuple(step for step, later in zip(make_plan().steps, new) if not later)
    return make_plan(**{**none, "steps": steps, **other})


def data() -> dict:
    return json.loads(to_json(make_plan()))
