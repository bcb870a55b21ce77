"""Plans on a demo model: what they save beside each means alone, and errors on prompts that they never saw.

    python -m benchmarks.plan [--model scenes|small] [--steps 20,50] [--prompts N] [--budgets 0.05,0.1] [--seeds N]
                              [--groups N] [--parts N] [--candidates everything|"kernels+forecast steps"|...]
                              [--means NAME ...] [--edge N] [--threads N] [--end-error each|one] [--fixed] [--out FILE]
    python -m benchmarks.plan --errors [--budgets 0.01,0.03,0.1] [--runs N] [--first N] ...

The first one samples each prompt exactly, by each means alone, by ComfyUI's step caches and by plans, one after the
other. Times are of whole samplings, as in forecast.py. PSNR is of the decoded clip beside the exact one. `right`: as
in forecast.py. `--fixed` adds a plan of each budget without what changes over the
steps of a part: ramps of density and kept choices of blocks.

With `--errors` plans are calibrated on a few prompts for all budgets, in each of several runs on other prompts and
seeds, and sample prompts never seen. Errors are relative L2 of the final latent. `within 1.5x`: prompts whose own error
is at most 1.5 times the predicted one; the goal is 15 of 16 at each budget of each run.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from rich.progress import Progress

from . import demo_model, host_paths, plan_speed
from .attention import machine

GOAL, LEAST = 1.5, 15 / 16


def main() -> None:
    options = arguments()
    demo_model.run(
        options, lambda: "\n".join([(errors if options.errors else plan_speed.text)(options), ended(options)])
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    demo_model.add_model(parser)
    for name in ("errors", "fixed"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--budgets", type=lambda text: sorted(map(float, text.split(","))))
    parser.add_argument("--steps", type=lambda text: list(map(int, text.split(","))))
    # `first`: number of the first run, so that each can be made by itself.
    for name, value in {"prompts": 16, "seeds": 4, "groups": 1, "parts": 4, "runs": 3, "first": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    # Threads of a busy machine wait for each other: of the small model two took over 45 minutes there, one six.
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates")
    # Of the latent: fewer frames, rows and columns are faster, and give errors of the same kind.
    parser.add_argument("--edge", type=int)
    parser.add_argument("--means", nargs="*")
    parser.add_argument("--end-error", choices=("each", "one"), default="one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.testbed = demo_model.TESTBEDS[options.model]
    if options.edge:
        options.testbed = replace(options.testbed, shape=(1, 128, *[options.edge] * 3))
    options.budgets = options.budgets or ([0.01, 0.03, 0.1] if options.errors else [0.05, 0.1])
    options.steps = options.steps or ([10] if options.errors else [20, 50])
    options.candidates = options.candidates or ("forecast steps" if options.errors else "everything")
    return options


def ended(options) -> str:
    """How, where and when all of it was measured."""
    how = f"{options.candidates}, {options.groups} groups of blocks, {options.parts} parts, {options.seeds} prompts"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    grid = " x ".join(map(str, options.testbed.shape[2:]))
    return f"\nCalibrated with {how}; the model {options.model}, latents of {grid}. {machine(device)}, {date.today()}."


def errors(options) -> str:
    """Markdown: a table of what was predicted and what prompts never seen gave, for each number of steps."""
    return "\n\n".join(table(options, steps, *evaluate(options, steps)) for steps in options.steps)


def evaluate(options, steps: int) -> tuple[list[list], list[list[list[float]]]]:
    """(plans of each run, for each plan its errors on unseen prompts)."""
    repeat, testbed = host_paths.ours("runs.repeated_sampling"), options.testbed
    model, known = testbed.load(), testbed.unseen(None)
    with Progress() as progress:
        task = progress.add_task("Runs, then prompts", total=options.runs + options.prompts)
        plans = []
        for run in range(options.first - 1, options.first - 1 + options.runs):
            # From the other end of the list than the prompts that nobody saw.
            words = [testbed.calibrated, *known[::-1]][run * options.seeds :][: options.seeds]
            plans.append(calibrated(options, model, words, 100 * run, steps))
            progress.advance(task)
        found = [[[] for _ in each] for each in plans]
        for seed, words in enumerate(testbed.unseen(options.prompts), 1000):
            other = repeat.Sampling(testbed.job_of(model, words, seed, steps))
            exact, _ = other.run(())
            for run, each in enumerate(plans):
                for into, one in zip(found[run], each):
                    into.append(repeat.distance(other.run(one.rules(), spans=one.spans())[0], exact))
            progress.advance(task)
    return plans, found


def calibrated(options, model, words: list, seed: int, steps: int) -> list:
    """The plans of one run, for each of the budgets."""
    plan, repeat = host_paths.ours("plan"), host_paths.ours("runs.repeated_sampling")
    jobs = [options.testbed.job_of(model, each, seed, steps) for each in words]
    sampling = repeat.Sampling(jobs[0], others=tuple(job.positive for job in jobs[1:]))
    choice = (options.groups, options.parts, plan_speed.ends_of(options), options.seeds)
    return [plan.calibrate(sampling, options.candidates, budget, *choice)[0] for budget in options.budgets]


def table(options, steps: int, plans: list[list], found: list[list[list[float]]]) -> str:
    rows = [
        f"| {steps} steps | budget | predicted | calibrating prompt | unseen: median | 90 % | least to most "
        "| in budget | within 1.5x |",
        f"|{' --- |' * 9}",
    ]
    kept = []
    for run, (each, errors) in enumerate(zip(plans, found), options.first):
        for plan, own in zip(each, errors):
            near, high = sum(error <= GOAL * plan.error for error in own), sorted(own)[math.ceil(0.9 * len(own)) - 1]
            if plan.steps or plan.forecasts:  # all exact is within anything
                kept.append(near >= LEAST * len(own))
            cells = (
                f"run {run}, {len(plan.steps) + len(plan.forecasts)} rules", f"{plan.budget:g}", f"{plan.error:.4f}",
                f"{plan.realised:.4f}", f"{statistics.median(own):.4f}", f"{high:.4f}",
                f"{min(own):.4f} to {max(own):.4f}", f"{sum(error <= plan.budget for error in own)} of {len(own)}",
                f"{near} of {len(own)}",
            )  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [*rows, "", f"Goal of 15 in 16 within 1.5x: {sum(kept)} of {len(kept)} plans that change anything."]
    )


if __name__ == "__main__":
    main()
