"""What is remembered, behind torch.compile, and how reports and their picture show forecasts."""

from __future__ import annotations

import json

import pytest
from forecasting import far, forecast, made_steps, sampled
from tiny import plain
from tiny.case import prompt

CASE = plain()["Wan"]


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


@pytest.mark.parametrize("name", ["Wan", "LTXV", "HunyuanVideo"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_what_is_remembered_is_what_was_said(name, cfg, pack, inference):
    from attention.families import find
    from attention.forecast.memory import bytes_of, in_words

    case = plain()[name]
    made = case.build()
    patched = forecast(pack, made)
    settings, net = pack.nodes.host.forecast.settings_of(patched), made.model.diffusion_model
    tokens = case.grid[0] * case.grid[1] * case.grid[2] + sum(
        n for kind, n in (*case.before, *case.after) if kind != "text"
    )
    width = getattr(net, find(type(net).__name__).head.width)
    said = bytes_of(settings, tokens, width, 4, prompts=1 if case.options.get("cfg", cfg) == 1.0 else 2)
    found = []
    monitor = pack.nodes.host.forecast_run.ForecastRun.end
    pack.nodes.host.forecast_run.ForecastRun.end = lambda run: (monitor(run), found.append(run.history.size))[0]
    try:
        _, report = sampled(pack, patched, case, cfg=cfg)
    finally:
        pack.nodes.host.forecast_run.ForecastRun.end = monitor
    assert max(found) == said and in_words(said)


def test_behind_compile_the_output_is_forecast(pack, inference, compiled):
    case = plain()["Wan"]
    made = case.build()
    exact, _ = sampled(pack, made, case)
    near, report = sampled(pack, compiled(forecast(pack, made)), case)
    assert made_steps(report) == [3, 5, 7] and far(near, exact) < 0.05
    assert any(note.startswith("Forecast: the model's output") for note in report.notes)


def test_the_report_shows_each_step(pack, model, inference):
    from attention.inspect.draw_report import FORECAST, STEP_COLOUR, _colours, draw_report
    from attention.inspect.report_text import to_text

    patched = pack.nodes.host.model_rules.add_rule(
        forecast(pack, model, in_a_row=2), pack.attention.routing.rules.Rule("sdpa")
    )
    _, report = sampled(pack, patched, CASE)
    text = to_text(report)
    assert "8 steps (4 of 8 evaluations forecast)" in text
    assert "in steps 3-4, 6-7; 4 of 8 evaluations forecast." in text and "Estimated error of a forecast" in text
    told = json.loads(json.dumps(report.as_dict()))
    assert told["evaluations_forecast"] == 4
    assert [one.get("forecast", 0) for one in told["timeline"]] == [0, 0, 1, 1, 0, 1, 1, 0]
    assert [bool(one["rows"]) for one in told["timeline"]] == [True, True, False, False, True, False, False, True]
    assert told["timeline"][4]["estimated_error"] > 0
    colours = _colours(report)
    assert len({*colours.values(), STEP_COLOUR}) == len(colours) + 1
    seen = {colour for _, colour in draw_report(report).getcolors(1 << 20)}
    assert colours[FORECAST] in seen


def test_verify_tells_the_real_error(pack, model, inference):
    from widget_defaults import defaults

    kind = pack.nodes.verify.VideoAttentionVerify
    given = {**defaults(kind), "positive": prompt(CASE, 1), "negative": prompt(CASE, 2), "steps": 8, "cfg": 1.0}
    values = {**given, "latent": {"samples": CASE.latent()}, "seed": 3, "sampler_name": "euler"}
    out = kind.execute(forecast(pack, model), **values).args
    assert 0 < out[2] < 0.05 and "Video Attention Forecast" in out[-1] and pack.nodes.verify.BARE not in out[-1]
    bare = kind.execute(model, **values).args
    assert bare[2] == 0 and pack.nodes.verify.BARE in bare[-1]
