"""Forecast steps on a demo model beside all steps computed, and beside ComfyUI's own step caches.

    python -m benchmarks.forecast [--model scenes|small] [--steps 20,50] [--prompts N] [--threads N] [--out FILE]

Samples each prompt with each means, one after the other. Times are of whole samplings: on a CPU those that this process
had of it, so that a busy machine does not count, on a GPU the clock's. PSNR is of the decoded clip beside that
of the same prompt and seed with every step computed. `right`: clips that show all that the prompt says; of the small
model, that move in its direction.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from . import demo_model, host_paths
from .attention import machine
from .demo_model import Measured, decibels

EXACT = "every step computed"
# Of EasyCache: its default, and where it leaves out few steps.
THRESHOLDS = (0.2, 0.02)


def main() -> None:
    options = arguments()
    demo_model.run(options, lambda: text(options, means()))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    demo_model.add_model(parser)
    parser.add_argument("--steps", type=lambda text: list(map(int, text.split(","))), default=[20, 50])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def means() -> dict:
    """Name -> what makes a MODEL of one."""
    import comfy_extras.nodes_easycache as caches

    host = host_paths.ours("host.forecast")

    def ours(**more):
        return lambda model: host.install(model, replace(host.ForecastSettings(), **more))

    def cached(node, threshold):
        return lambda model: node.execute(model, threshold, 0.15, 0.95, False).args[0]

    fitted = {"method": "chebyshev", "degree": 2, "warm_up": 4}
    found = {
        EXACT: lambda model: model,
        "taylor, 1 in a row": ours(in_a_row=1, max_error=0.0),
        "taylor as it comes": ours(),
        "taylor, 3 in a row, any error": ours(max_error=0.0),
        "taylor, 6 in a row, any error": ours(in_a_row=6, max_error=0.0),
        "chebyshev, 3 in a row": ours(**fitted),
        "chebyshev, 3 in a row, any error": ours(max_error=0.0, **fitted),
    }
    found |= {f"EasyCache, {threshold:g}": cached(caches.EasyCacheNode, threshold) for threshold in THRESHOLDS}
    return found | {"LazyCache, 0.2": cached(caches.LazyCacheNode, 0.2)}


def text(options, makers: dict) -> str:
    """Markdown: a table for each number of steps.

    makers: name -> what makes a MODEL of one.
    """
    testbed = demo_model.TESTBEDS[options.model]
    tables = [
        table(options, steps, demo_model.measure(testbed, makers, options.prompts, steps)) for steps in options.steps
    ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "\n\n".join([*tables, f"{machine(device)}, {date.today()}."])


def table(options, steps: int, found: dict[str, Measured]) -> str:
    """Markdown: medians of the times, means of the rest, and the worst clip."""
    rows = [
        f"| {steps} steps | computed | seconds | faster | relative L2 | PSNR, mean | PSNR, least | right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    whole = statistics.median(found[EXACT].seconds)
    for name, one in found.items():
        seconds = statistics.median(one.seconds)
        cells = (
            name, f"{statistics.fmean(one.computed):.1f}", f"{seconds:.2f}", f"{whole / seconds:.2f}x",
            f"{statistics.fmean(one.errors):.4f}", decibels(statistics.fmean(one.decibels)),
            decibels(min(one.decibels)), f"{one.right} of {options.prompts}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
