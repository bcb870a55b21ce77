"""Kept attention outputs on a demo model, alone and with forecast steps, beside all attention computed.

    python -m benchmarks.reuse [--model scenes|small] [--steps 20,50] [--prompts N] [--threads N] [--out FILE]

Goes as `python -m benchmarks.forecast` does, whose tables it makes. `computed` counts evaluations of the model.
"""

from __future__ import annotations

from dataclasses import replace

from . import demo_model, forecast, host_paths


def means() -> dict:
    """Name -> what makes a MODEL of one."""
    rules, forecasts = host_paths.ours("host.model_rules"), host_paths.ours("host.forecast")
    kinds = host_paths.ours("reuse")

    def kept(every, role="self", start=0.15, end=0.9, storage="model dtype"):
        settings = kinds.ReuseSettings(every, storage=storage)
        rule = kinds.rules.Rule("", role, start=start, end=end, reuse=settings)
        return lambda model: rules.add_rule(model, rule)

    def forecast_too(make):
        return lambda model: forecasts.install(make(model), replace(forecasts.ForecastSettings(), in_a_row=1))

    return {
        forecast.EXACT: lambda model: model,
        "self, every 2 steps": kept(2),
        "self, every 3 steps": kept(3),
        "self, every 2 steps, from the first to the last": kept(2, start=0.0, end=1.0),
        "self, every 2 steps, 8 bit": kept(2, storage="8 bit"),
        "cross, every 3 steps": kept(3, "cross"),
        "cross, every 6 steps": kept(6, "cross"),
        "all, every 2 steps": kept(2, "all"),
        "taylor, 1 in a row": forecast_too(lambda model: model),
        "taylor, 1 in a row; self, every 4 steps": forecast_too(kept(4)),
    }


def main() -> None:
    options = forecast.arguments()
    demo_model.run(options, lambda: forecast.text(options, means()))


if __name__ == "__main__":
    main()
