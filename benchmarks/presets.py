"""What the presets of a family do to the demo model's clips: pattern alone, forecast alone, and both.

    python -m benchmarks.presets [--models LTXV,MiniMax-H3] [--levels balanced,fast] [--steps N] [--prompts N]
                                 [--threads N] [--out FILE]

The demo model has 512 tokens, so `min_tokens` is 0 here and the pattern runs whether it is faster or not: its seconds
say nothing of a real video, its decibels little. PSNR is of the decoded clip beside that of the same prompt and seed
with every step computed and dense. `right`: clips whose shape moves as the prompt says.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import torch
from rich.progress import track

from . import host_paths
from .attention import machine
from .plan import job_of, unseen

EXACT = "nothing"


@dataclass
class Measured:
    """What one means gave, over all prompts."""

    seconds: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    decibels: list[float] = field(default_factory=list)
    right: int = 0


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if host_paths.enter(cpu=not torch.cuda.is_available()) is None:
        raise SystemExit("no ComfyUI in .host: run python scripts/host.py")
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    with torch.inference_mode():
        text = table(options, measure(options))
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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


def measure(options) -> dict[str, Measured]:
    """Name -> what it gave. The means take turns, so that a busy moment falls on each."""
    import comfy.sd

    demo, runs, makers = host_paths.ours("demo"), host_paths.ours("runs.sampling_job"), means(options)
    path = host_paths.ROOT / "models/diffusion_models/video-attention-demo.safetensors"
    model, vae, calls = comfy.sd.load_diffusion_model(str(path)), demo.DemoVAE(), []
    model.model.diffusion_model.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(None))
    found = {name: Measured() for name in makers}
    for seed, words in enumerate(track(unseen(options.prompts), "Prompts"), 2000):
        job, exact = job_of(model, words, seed, options.steps), None
        for name, make in makers.items():
            calls.clear()
            begin = time.perf_counter()
            latent = runs.run(replace(job, model=make(model)), lambda *step: None)
            found[name].seconds.append(time.perf_counter() - begin)
            clip = vae.decode(latent)[0]
            exact = clip if exact is None else exact
            note(found[name], clip, exact, len(calls), words[2])
    return found


def note(into: Measured, clip, exact, computed: int, direction: str) -> None:
    """Adds what one clip says. scripts/evaluate_demo.py reads the way of its shape."""
    from evaluate_demo import find_shape, read_direction

    _, rows, columns = find_shape(clip)
    error = (clip - exact).square().mean().item()
    into.computed.append(computed)
    into.decibels.append(-10 * math.log10(error) if error else math.inf)
    into.right += read_direction(rows, columns) == direction


def table(options, found: dict[str, Measured]) -> str:
    """Markdown: medians of the times, means of the rest, and the worst clip."""
    rows = [
        f"| {options.steps} steps | computed | seconds | PSNR, mean | PSNR, least | right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, one in found.items():
        decibels = [f"{pick(one.decibels):.1f}" for pick in (statistics.fmean, min)] if name != EXACT else ["-", "-"]
        cells = (
            name, f"{statistics.fmean(one.computed):.1f}", f"{statistics.median(one.seconds):.2f}", *decibels,
            f"{one.right} of {options.prompts}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "\n".join([*rows, "", f"{machine(device)}, {options.threads} thread, {date.today()}."])


if __name__ == "__main__":
    main()
