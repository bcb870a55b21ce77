"""Samplings of the demo models that benchmarks share: prompts, jobs, and what ways to sample do to their clips."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from rich.progress import Progress
from torch import Tensor

from . import host_paths

sys.path.append(str(host_paths.ROOT / "scripts"))

# Not later: they put this pack first on the path, where ComfyUI must stand once it is entered.
import evaluate_demo
import evaluate_scenes
import read_scene
from demo_models import SCENES, SMALL, DemoModel

from attention.demo import prompt, scene_prompt
from attention.measure.compare import to_psnr

# Of its largest area a shape must show so much to have a place, and of a mask so much counts.
SEEN, FAINT = 0.05, 0.25


@dataclass(frozen=True)
class Testbed:
    """A demo model to sample with. host_paths.enter must have been called before its methods are.

    asked: its file, its nodes, and the prompt that plans are calibrated on. list_prompts: many prompts in a fixed
    order. is_right: whether a clip (F, H, W, 3) shows what a prompt says. shape: of the latent. mask_shape: which
    pixels of frames (F, H, W, 3) are of the first shape that a prompt names: (F, H, W), 0 to 1.
    """

    asked: DemoModel
    list_prompts: Callable[[], list[tuple[str, ...]]]
    is_right: Callable[[Tensor, tuple[str, ...]], bool]
    shape: tuple[int, ...]
    mask_shape: Callable[[Tensor, tuple[str, ...]], Tensor]

    @property
    def calibrated(self) -> tuple[str, ...]:
        """The words that `unseen` leaves out."""
        return tuple(self.asked.words.values())

    def load(self):
        """The model as ComfyUI's own node loads it: a MODEL."""
        import comfy.sd

        return comfy.sd.load_diffusion_model(str(self.asked.path))

    def prompts_of(self, words: tuple[str, ...]) -> tuple:
        """The positive and the negative conditioning of a prompt."""
        return getattr(host_paths.ours("demo"), self.asked.prompt).execute(*words).args

    def decode(self, latent: Tensor) -> Tensor:
        """Clips (B, F, H, W, 3) of a latent (B, 128, T, Y, X)."""
        demo = host_paths.ours("demo")
        return demo.DemoVAE(demo.CODECS[self.asked.clips]).decode(latent)

    def find_places(self, frames: Tensor, words: tuple[str, ...]) -> tuple[Tensor, Tensor]:
        """Rows and columns (n,) in frame widths of the first shape's centre, in the frames that show it."""
        mask = self.mask_shape(frames, words)
        area, centre = read_scene.find_centres(torch.where(mask > FAINT, mask, 0.0))
        return tuple(centre[area > SEEN * area.max()].T)

    def job_of(self, model, words: tuple[str, ...], seed: int, steps: int):
        """A sampling as the model's workflow makes it: euler, simple, no guidance."""
        import comfy.samplers

        sampling, (positive, negative) = host_paths.ours("runs.sampling_job"), self.prompts_of(words)
        latent = {"samples": torch.zeros(self.shape)}
        sigmas, _ = sampling.sigmas_of(model, "euler", "simple", steps, 1.0, latent)
        euler = comfy.samplers.sampler_object("euler")
        noise = sampling.noise_of(latent, seed)
        return sampling.Job(model, positive, negative, 1.0, euler, sigmas, latent, noise, seed)

    def unseen(self, count: int | None) -> list[tuple[str, ...]]:
        """The first prompts in a fixed order that goes over all words, without the calibrated one. None: all listed."""
        return [words for words in self.list_prompts() if words != self.calibrated][:count]


def apart(frames: Tensor) -> Tensor:
    """How far pixels (..., H, W, 3) are from the most common colour, their median: (..., H, W), 0 to 1."""
    ground = frames.flatten(0, -2).median(0).values
    return (2 * (frames - ground).abs().amax(-1)).clamp(max=1)


def _has_colour(frames: Tensor, words: tuple[str, ...]) -> Tensor:
    return (read_scene.sort_pixels(frames) == scene_prompt.COLOURS.index(words[0])).float()


def _list_shapes() -> list[tuple[str, str, str]]:
    every = [(c, s, d) for d in prompt.DIRECTIONS for s in prompt.SHAPES for c in prompt.COLOURS]
    # 7 has no factor in common with their number, so steps of it come to all.
    return [every[(7 * (7 * i + 5)) % len(every)] for i in range(len(every))]


def _moves_right(clip: Tensor, words: tuple[str, ...]) -> bool:
    """Whether the shape moves in the direction that the prompt says."""
    _, rows, columns = evaluate_demo.find_shape(clip)
    return evaluate_demo.read_direction(rows, columns) == words[2]


def _list_scenes() -> list[tuple[str, ...]]:
    return scene_prompt.name_numbers(evaluate_scenes.choose_words(64))


def _shows_all(clip: Tensor, words: tuple[str, ...]) -> bool:
    """Whether colours, forms, directions and order are all as the prompt says."""
    found = evaluate_scenes.compare(clip, words)
    return all(all(values) for name, values in found.items() if name != "jump")


TESTBEDS = {
    "scenes": Testbed(SCENES, _list_scenes, _shows_all, (1, 128, *SCENES.grid), _has_colour),
    "small": Testbed(SMALL, _list_shapes, _moves_right, (1, 128, *SMALL.grid), lambda frames, words: apart(frames)),
}


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds `--model`, the name of a testbed; `TESTBEDS[options.model]` is what it says."""
    parser.add_argument("--model", choices=list(TESTBEDS), default=next(iter(TESTBEDS)), help="which demo model")


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


def measure(testbed: Testbed, makers: dict[str, Callable], prompts: int, steps: int) -> dict[str, Measured]:
    """Name -> what it gave. The ways take turns, so that a busy moment falls on each.

    makers: name -> what makes a MODEL of one; the first is what the others are compared with.
    """
    runs, model, calls = host_paths.ours("runs.sampling_job"), testbed.load(), []
    # The first sampling loads the model.
    runs.run(testbed.job_of(model, testbed.unseen(1)[0], 0, 1), lambda *step: None)
    # A forecast and a cache leave the first block out.
    model.model.diffusion_model.transformer_blocks[0].register_forward_pre_hook(lambda *_: calls.append(None))
    # On a CPU the time that this process had of it, so that a busy machine does not count.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    found = {name: Measured() for name in makers}
    with Progress() as progress:
        task = progress.add_task(f"{steps} steps", total=prompts * len(makers))
        for seed, words in enumerate(testbed.unseen(prompts), 2000):
            job, exact = testbed.job_of(model, words, seed, steps), None
            for name, make in makers.items():
                calls.clear()
                begin = clock()
                latent = runs.run(replace(job, model=make(model)), lambda *step: None)
                found[name].seconds.append(clock() - begin)
                clip = testbed.decode(latent)[0]
                exact = exact or (latent, clip)
                found[name].computed.append(len(calls))
                found[name].right += testbed.is_right(clip, words)
                _note(found[name], latent, clip, exact)
                progress.advance(task)
    return found


def _note(into: Measured, latent: Tensor, clip: Tensor, exact: tuple[Tensor, Tensor]) -> None:
    """Adds how far a latent and its clip are from the exact ones."""
    into.errors.append(((latent - exact[0]).norm() / exact[0].norm()).item())
    into.decibels.append(to_psnr((clip - exact[1]).square().mean().item()))


def decibels(value: float) -> str:
    """Write a PSNR, of equal clips too."""
    return f"{value:.1f}" if math.isfinite(value) else "same"
