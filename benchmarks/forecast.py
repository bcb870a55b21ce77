"""Forecast steps on the demo model beside all steps computed, and beside ComfyUI's own step caches.

    python -m benchmarks.forecast [--steps 20,50] [--prompts N] [--threads N] [--out FILE]

Samples each prompt with each means, one after the other. Times are of whole samplings: on a CPU those that this process
had of it, so that a busy machine does not count, on a GPU the clock's. PSNR is of the decoded clip beside that
of the same prompt and seed with every step computed. `right`: clips whose shape moves in the direction of the prompt.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import torch
from rich.progress import Progress

from . import host_paths
from .attention import machine
from .plan import job_of, unseen

EXACT = "every step computed"
# Of EasyCache: its default, and where it leaves out few steps.
THRESHOLDS = (0.2, 0.02)


@dataclass
class Measured:
    """What one means gave, over all prompts."""

    seconds: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
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
        text = "\n\n".join(table(options, steps, measure(options, steps)) for steps in options.steps)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text += f"\n\n{machine(device)}, {date.today()}."
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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


def measure(options, steps: int) -> dict[str, Measured]:
    """Name -> what it gave with so many steps. The means take turns, so that a busy moment falls on each."""
    import comfy.sd

    demo, runs = host_paths.ours("demo"), host_paths.ours("runs.sampling_job")
    path = host_paths.ROOT / "models/diffusion_models/video-attention-demo.safetensors"
    model, vae, makers = comfy.sd.load_diffusion_model(str(path)), demo.DemoVAE(), means()
    # The first sampling loads the model.
    runs.run(job_of(model, unseen(1)[0], 0, 1), lambda *step: None)
    calls = _counted(model)
    found = {name: Measured() for name in makers}
    with Progress() as progress:
        task = progress.add_task(f"{steps} steps", total=options.prompts * len(makers))
        for seed, words in enumerate(unseen(options.prompts), 2000):
            job, exact = job_of(model, words, seed, steps), None
            for name, make in makers.items():
                calls.clear()
                clock = time.perf_counter if torch.cuda.is_available() else time.process_time
                begin = clock()
                latent = runs.run(replace(job, model=make(model)), lambda *step: None)
                found[name].seconds.append(clock() - begin)
                clip = vae.decode(latent)[0]
                exact = exact or (latent, clip)
                _note(found[name], latent, clip, exact, len(calls), words[2])
                progress.advance(task)
    return found


def _counted(model) -> list:
    """Lists the runs of the model's first block, which a forecast and a cache leave out."""
    calls: list = []
    model.model.diffusion_model.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(None))
    return calls


def _note(into: Measured, latent, clip, exact, computed: int, direction: str) -> None:
    find_shape, read_direction = _readers()
    _, rows, columns = find_shape(clip)
    into.computed.append(computed)
    into.errors.append(((latent - exact[0]).norm() / exact[0].norm()).item())
    error = (clip - exact[1]).square().mean().item()
    into.decibels.append(-10 * math.log10(error) if error else math.inf)
    into.right += read_direction(rows, columns) == direction


def _readers():
    """The functions of scripts/evaluate_demo.py, which is no package."""
    import sys

    folder = str(host_paths.ROOT / "scripts")
    if folder not in sys.path:
        sys.path.append(folder)
    from evaluate_demo import find_shape, read_direction

    return find_shape, read_direction


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
            f"{statistics.fmean(one.errors):.4f}", _decibels(statistics.fmean(one.decibels)),
            _decibels(min(one.decibels)), f"{one.right} of {options.prompts}",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _decibels(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "same"


if __name__ == "__main__":
    main()
