"""Samplings of the demo model that benchmarks share: prompts, jobs, and what ways to sample do to its clips."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from rich.progress import Progress

from . import host_paths

# Left out of unseen().
CALIBRATED = ("red", "disc", "right")
LATENT = (1, 128, 8, 8, 8)


@dataclass
class Measured:
    """What one way to sample gave, over all prompts."""

    seconds: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    decibels: list[float] = field(default_factory=list)
    right: int = 0


def run(options: argparse.Namespace, make_text: Callable[[], str]) -> None:
    """Prints what `make_text` gives with ComfyUI imported, and writes it where `options.out` says.

    options: of the command line: `threads`, and `out` or None.
    """
    torch.set_num_threads(options.threads)
    if host_paths.enter(cpu=not torch.cuda.is_available()) is None:
        raise SystemExit("no ComfyUI in .host: run python scripts/host.py")
    import comfy.utils

    comfy.utils.PROGRESS_BAR_ENABLED = False
    with torch.inference_mode():
        text = make_text()
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


def load():
    """The demo model as ComfyUI's own node loads it: a MODEL."""
    import comfy.sd

    path = host_paths.ROOT / "models/diffusion_models/video-attention-demo.safetensors"
    return comfy.sd.load_diffusion_model(str(path))


def job_of(model, words: tuple[str, str, str], seed: int, steps: int, shape: tuple[int, ...] = LATENT):
    """A sampling of the demo model as its workflow makes it: euler, simple, no guidance. shape: of the latent."""
    import comfy.samplers

    sampling, demo = host_paths.ours("runs.sampling_job"), host_paths.ours("demo")
    positive, negative = demo.VideoAttentionDemoPrompt.execute(*words).args
    latent = {"samples": torch.zeros(shape)}
    sigmas, _ = sampling.sigmas_of(model, "euler", "simple", steps, 1.0, latent)
    euler = comfy.samplers.sampler_object("euler")
    return sampling.Job(model, positive, negative, 1.0, euler, sigmas, latent, sampling.noise_of(latent, seed), seed)


def unseen(count: int) -> list[tuple[str, str, str]]:
    """Prompts spread over all there are, the calibrated one left out."""
    prompt = host_paths.ours("demo").prompt
    every = [(c, s, d) for d in prompt.DIRECTIONS for s in prompt.SHAPES for c in prompt.COLOURS]
    # 7 has no factor in common with their number, so steps of it come to all.
    order = [every[(7 * (7 * i + 5)) % len(every)] for i in range(len(every))]
    return [words for words in order if words != CALIBRATED][:count]


def measure(makers: dict[str, Callable], prompts: int, steps: int) -> dict[str, Measured]:
    """Name -> what it gave. The ways take turns, so that a busy moment falls on each.

    makers: name -> what makes a MODEL of one; the first is what the others are compared with.
    """
    demo, runs, model = host_paths.ours("demo"), host_paths.ours("runs.sampling_job"), load()
    vae, calls = demo.DemoVAE(), []
    # The first sampling loads the model.
    runs.run(job_of(model, unseen(1)[0], 0, 1), lambda *step: None)
    # A forecast and a cache leave the first block out.
    model.model.diffusion_model.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(None))
    # On a CPU the time that this process had of it, so that a busy machine does not count.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    found = {name: Measured() for name in makers}
    with Progress() as progress:
        task = progress.add_task(f"{steps} steps", total=prompts * len(makers))
        for seed, words in enumerate(unseen(prompts), 2000):
            job, exact = job_of(model, words, seed, steps), None
            for name, make in makers.items():
                calls.clear()
                begin = clock()
                latent = runs.run(replace(job, model=make(model)), lambda *step: None)
                found[name].seconds.append(clock() - begin)
                clip = vae.decode(latent)[0]
                exact = exact or (latent, clip)
                _note(found[name], latent, clip, exact, len(calls), words[2])
                progress.advance(task)
    return found


def _note(into: Measured, latent, clip, exact, computed: int, direction: str) -> None:
    """Adds what one clip says. scripts/evaluate_demo.py reads the way of its shape."""
    from evaluate_demo import find_shape, read_direction

    _, rows, columns = find_shape(clip)
    into.computed.append(computed)
    into.errors.append(((latent - exact[0]).norm() / exact[0].norm()).item())
    error = (clip - exact[1]).square().mean().item()
    into.decibels.append(-10 * math.log10(error) if error else math.inf)
    into.right += read_direction(rows, columns) == direction


def decibels(value: float) -> str:
    """Write a PSNR, of equal clips too."""
    return f"{value:.1f}" if math.isfinite(value) else "same"
