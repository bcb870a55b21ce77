"""What the presets of a family do to a demo model's clips: pattern alone, forecast alone, and both.

    python -m benchmarks.presets [--model scenes|small] [--models LTXV,MiniMax-H3] [--levels balanced,fast] [--steps N]
                                 [--prompts N] [--threads N] [--out FILE]

The demo models have 2,304 tokens and 512, so `min_tokens` is 0 here and the pattern runs whether it is faster or not:
its seconds say nothing of a real video, its decibels little. PSNR is of the decoded clip beside that of the same prompt
and seed with every step computed and dense. `right` and times as in forecast.py.
`--models`: of which families the presets are, `--model`: on which demo model they are tried.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from . import demo_model, host_paths
from .attention import machine
from .demo_model import Measured, decibels

EXACT = "nothing"


def main() -> None:
    options = arguments()
    testbed = demo_model.TESTBEDS[options.model]
    demo_model.run(
        options,
        lambda: table(options, demo_model.measure(testbed, means(options), options.prompts, options.steps)),
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    demo_model.add_model(parser)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["LTXV"])
    parser.add_argument("--levels", type=lambda text: text.split(","), default=["balanced", "fast"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def means(options) -> dict[str, Callable]:
    """Name -> what makes a MODEL of one."""
    boost, rules, forecast = (host_paths.ours(n) for n in ("boost", "host.model_rules", "host.forecast"))
    presets, runs = boost.presets, boost.preset_rules

    def shaped(model, row):
        made = runs.install_preset(model, row, runs.Asked(forecast=False))[1].rules
        pattern = next(rule for rule in made if rule.shape)
        shape = replace(pattern.shape, if_faster=False, min_tokens=0)
        return rules.add_rule(model, replace(pattern, shape=shape, choice="table order"))

    found: dict[str, Callable] = {EXACT: lambda model: model}
    for name in options.models:
        for row in (presets.find(name, level) for level in options.levels):
            if row.pattern:
                found[f"{name} {row.level}: pattern"] = lambda model, row=row: shaped(model, row)
            if row.forecast:
                found[f"{name} {row.level}: forecast"] = lambda model, row=row: forecast.install(model, row.forecast)
            if row.pattern and row.forecast:
                found[f"{name} {row.level}: both"] = lambda model, row=row: forecast.install(
                    shaped(model, row), row.forecast
                )
    return found


def table(options, found: dict[str, Measured]) -> str:
    """Markdown: medians of the times, means of the rest, and the worst clip."""
    rows = [
        f"| {options.steps} steps | computed | seconds | PSNR, mean | PSNR, least | right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        cells = (
            name, f"{statistics.fmean(one.computed):.1f}", f"{statistics.median(one.seconds):.2f}",
            decibels(statistics.fmean(one.decibels)), decibels(min(one.decibels)), f"{one.right} of {options.prompts}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "\n".join([*rows, "", f"{machine(device)}, {date.today()}."])


if __name__ == "__main__":
    main()
