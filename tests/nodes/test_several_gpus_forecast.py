"""Forecast steps on several GPUs: the evaluations that are computed are shared out, one GPU forecasts the others."""

from __future__ import annotations

import pytest
from gpus_here import WIDE, about_gpus, far, loud, on_gpus, sampled, stand_in, with_rules

from attention.forecast import ForecastSettings
from attention.routing.rules import Rule

EXACT, SDPA = 1e-5, Rule("sdpa")
FORECAST = ForecastSettings(warm_up=2, last=1, in_a_row=2, max_error=0.0, degree=1)


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("cfg, count", [(1.0, 2), (3.0, 2), (3.0, 4)])
def test_forecasts_are_those_of_one_gpu(name, cfg, count, pack):
    """What is computed is shared out, what is forecast is made by the first GPU, which remembers."""
    case = WIDE[name]
    model = pack.nodes.host.forecast.install(with_rules(pack, loud(case), SDPA), FORECAST)
    truth, alone = sampled(pack, model, case, cfg=cfg, steps=8)
    made = on_gpus(pack, model, count, split="prompts, then tokens")
    out, report = sampled(pack, made, case, cfg=cfg, steps=8)
    assert alone.forecasts == report.forecasts == 4 and alone.evaluations == report.evaluations
    assert far(out, truth) < EXACT and about_gpus(report).startswith(f"On {count} GPUs")
    # Below the other node it is the same.
    behind = pack.nodes.host.forecast.install(on_gpus(pack, with_rules(pack, loud(case), SDPA), count), FORECAST)
    out, report = sampled(pack, behind, case, cfg=cfg, steps=8)
    assert far(out, truth) < EXACT and report.forecasts == 4 and f"On {count} GPUs" in about_gpus(report)
