"""Plans for three budgets on the demo model: the error that was predicted beside the one on prompts never seen.

    python -m benchmarks.plan [--budgets 0.01,0.03,0.1] [--prompts N] [--seeds N] [--steps N] [--groups N] [--parts N]
                              [--candidates patterns|kernels|"kernels and patterns"] [--end-error each|one]
                              [--threads N] [--out FILE]

Calibrates once on one prompt, for all budgets, then samples other prompts with other seeds, exact and by each plan.
Errors are relative L2 of the final latent. `goal`: the root mean square over those prompts is within 1.5x of what was
predicted, and no tighter budget has the larger one.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from datetime import date
from pathlib import Path

import torch
from rich.progress import track

from . import demo_model, host_paths
from .attention import machine
from .demo_model import CALIBRATED, job_of, unseen

GOAL = 1.5


def main() -> None:
    options = arguments()
    demo_model.run(options, lambda: table(options, *evaluate(options)))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=lambda text: sorted(map(float, text.split(","))), default=[0.01, 0.03, 0.1])
    for name, value in {"prompts": 16, "seeds": 3, "steps": 8, "groups": 3, "parts": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    # Threads of a busy machine wait for each other: with two this took over 45 minutes there, with one six.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", default="patterns")
    parser.add_argument("--end-error", choices=("each", "one"), default="each")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def evaluate(options) -> tuple[list, list[list[float]], float]:
    """(plans, for each the errors on unseen prompts, seconds that the calibration took)."""
    plan, repeat = host_paths.ours("plan"), host_paths.ours("runs.repeated_sampling")
    calibration = host_paths.ours("runs.calibration")
    model = demo_model.load()
    begin, ends = time.perf_counter(), {"each": calibration.EACH, "one": calibration.ONE}[options.end_error]
    sampling = repeat.Sampling(job_of(model, CALIBRATED, 0, options.steps))
    plans = []
    for budget in track(options.budgets, "Calibrating"):
        choice = (options.candidates, budget, options.groups, options.parts, ends, options.seeds)
        plans.append(plan.calibrate(sampling, *choice)[0])
    took, errors = time.perf_counter() - begin, [[] for _ in plans]
    for seed, words in enumerate(track(unseen(options.prompts), "Unseen prompts"), 1000):
        other = repeat.Sampling(job_of(model, words, seed, options.steps))
        exact, _ = other.run(())
        for found, one in zip(errors, plans):
            found.append(repeat.distance(other.run(one.rules())[0], exact))
    return plans, errors, took


def table(options, plans: list, errors: list[list[float]], took: float) -> str:
    rows = [
        "| budget | rules | attention, s | predicted | calibrating prompt | unseen: root mean square | least to most "
        "| over predicted | within 1.5x |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    means = [math.sqrt(statistics.fmean(error**2 for error in found)) for found in errors]
    for plan, found, mean in zip(plans, errors, means):
        ratio = mean / plan.error if plan.error else float(mean > 0)
        near = sum(error <= GOAL * plan.error for error in found)
        cells = (
            f"{plan.budget:g}", len(plan.steps), f"{plan.exact_seconds:.2f} to {plan.seconds:.2f}", f"{plan.error:.4f}",
            f"{plan.realised:.4f}", f"{mean:.4f}", f"{min(found):.4f} to {max(found):.4f}", f"{ratio:.2f}",
            f"{near} of {len(found)}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(map(str, cells))} |")
    within = all(1 / GOAL <= mean / plan.error <= GOAL for plan, mean in zip(plans, means) if plan.error)
    ordered = means == sorted(means)
    each = sum(list(one) == sorted(one) for one in zip(*errors))
    settings = (
        f"{options.candidates}, {options.groups} groups of blocks, {options.parts} parts of {options.steps} steps"
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    goal = f"Goal: within 1.5x {'yes' if within else 'NO'}, tighter is never worse {'yes' if ordered else 'NO'}"
    rows += ["", f"{goal}, and so it is on {each} of {len(errors[0])} prompts taken alone."]
    rows += [f"{settings}, {options.seeds} seeds; calibrated in {took:.0f} s. {machine(device)}, {date.today()}."]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
