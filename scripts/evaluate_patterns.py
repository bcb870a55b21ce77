"""What each attention pattern changes in a demo model's clips: PSNR against dense attention, flicker, what is right.

    python scripts/evaluate_patterns.py [--model scenes|small] [--samples N] [--everywhere] [--only TEXT] [--out FILE]

Prompts, seeds and sampler of evaluate_scenes.py or evaluate_demo.py, by the pack's engines, without ComfyUI. The first
fifth of the steps is dense, as Video Attention Sparse Pattern has it by default. `jump`: mean absolute second
difference of the shapes' places, in thousandths of the frame's width. `right`: of what the prompt says (of the small
model, of directions).
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import evaluate_demo as demo
import evaluate_scenes
from demo_models import SCENES, SMALL, DemoModel

from attention import patterns
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.tokens import BOTH, VideoSpan
from attention.demo import codec, prompt, scene_codec, scene_prompt
from attention.demo.transformer import attend
from attention.measure.compare import to_psnr
from attention.measure.frames import to_picture
from attention.measure.motion import find_motion, measure_unexplained
from attention.patterns.density import density
from attention.patterns.ramp import COSINE, Ramp
from attention.sparse.engine_registry import runners

# Frames of one latent frame come from the same tokens: what jumps, jumps between these. Every second joint counts.
EACH = 8


def list_patterns(frames: int, tile: tuple[int, int, int], row: int) -> dict:
    """Name -> a pattern, or one and how it changes over the steps.

    frames: of a window that sees a little more than half of a clip. tile: of sliding tiles, in tokens. row: tokens in a
    row of the grid.
    """
    near = frames - frames % 2
    return {
        f"temporal window, {frames} frames": patterns.TemporalWindow(frames),
        f"sliding tile, {near} frames, 50 %": patterns.SlidingTile(near, 50, 50, tile),
        f"neighbourhood, {frames} frames, 60 %": patterns.Neighbourhood(frames, 60, 60),
        "radial, keep 100 %": patterns.Radial(step=row),
        "radial, keep 40 %": patterns.Radial(40, step=row),
        "top blocks, 20 %": patterns.TopBlocks(20),
        "top blocks, 20 %, with tail": patterns.TopBlocks(20, tail=True),
        "blocks by mass, 50 %, with tail": patterns.MassBlocks(50, tail=True),
        "spatial or temporal": patterns.Union((patterns.Spatial(), patterns.Temporal())),
        "spatial and temporal, in turn": patterns.Factorised(),
        "spatial and temporal, averaged": patterns.Factorised(0.5),
        "spatial": patterns.Spatial(),
        "temporal": patterns.Temporal(),
        # Whole blocks of keys are kept; the small model has 8, of which a ramp and its reverse keep 4.4 on average.
        "top blocks over time, 50 %": patterns.TopBlocks(50, tail=True),
        "top blocks over time, 62 %": patterns.TopBlocks(62, tail=True),
        "top blocks over time, 75 to 25 %": (patterns.TopBlocks(75, tail=True), Ramp(25)),
        "top blocks over time, 25 to 75 %": (patterns.TopBlocks(25, tail=True), Ramp(75)),
        "top blocks over time, 75 to 25 %, cosine": (patterns.TopBlocks(75, tail=True), Ramp(25, COSINE)),
    }


@dataclass(frozen=True)
class Kind:
    """A demo model, and how its clips are drawn and read.

    asked: its file, grid and steps. choose: of a number, prompts as words and their tokens (B, words, channels). read:
    of a clip (F, H, W, 3) and its words, the jump in frame widths and the part of it that is right.
    """

    asked: DemoModel
    patterns: dict
    choose: Callable
    decode: Callable
    read: Callable


def choose_shapes(samples: int) -> tuple[list, Tensor]:
    words = demo.choose_words(samples)
    return words, torch.cat([prompt.encode_prompt(*three)[0] for three in words])


def read_shape(clip: Tensor, words: tuple) -> tuple[float, float]:
    found = demo.measure(clip[None], [words])
    return found["jump_pixels"] / clip.shape[2], found["direction_accuracy"]


def choose_scenes(samples: int) -> tuple[list, Tensor]:
    numbers = evaluate_scenes.choose_words(samples)
    return scene_prompt.name_numbers(numbers), scene_prompt.encode_numbers(numbers)


def read_scene(clip: Tensor, words: tuple) -> tuple[float, float]:
    found = evaluate_scenes.compare(clip, words)
    (jump,), said = found.pop("jump"), [float(right) for each in found.values() for right in each]
    return jump, statistics.mean(said)


KINDS = {
    "scenes": Kind(SCENES, list_patterns(9, (2, 3, 3), 12), choose_scenes, scene_codec.decode, read_scene),
    "small": Kind(SMALL, list_patterns(5, (1, 2, 2), 8), choose_shapes, codec.decode, read_shape),
}


class Shaped:
    """Self-attention of a demo model by a pattern, dense in the first steps. Counts its calls to know where it is.

    stretches: patterns, each for an equal part of the other steps. steps, dense_steps: of the sampling; the first ones.
    """

    def __init__(self, stretches: tuple, steps: int, dense_steps: int, layers: int):
        self.stretches, self.layers, self.calls = stretches, layers, 0
        self.dense_calls, self.shaped_calls = dense_steps * layers, (steps - dense_steps) * layers

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, grid) -> Tensor:
        """q, k, v: (B, H, N, D); returns (B, H, N, D)."""
        self.calls += 1
        if self.calls <= self.dense_calls:
            return attend(q, k, v, grid)
        block, done = (self.calls - 1) % self.layers, self.calls - 1 - self.dense_calls
        pattern = self.stretches[done * len(self.stretches) // self.shaped_calls]
        able = runners(pattern, VideoSpan(grid, 0, BOTH), describe(q, k, v), block=block)
        if isinstance(able, Reason):
            raise ValueError(able)
        return able[0](q, k, v)


def sample(kind: Kind, model, seed: int, tokens: Tensor, stretches: tuple = (), dense_steps: int = 0) -> Tensor:
    """A clip (F, H, W, 3). tokens: of its prompt. stretches: see Shaped; none: dense."""
    way = Shaped(stretches, kind.asked.steps, dense_steps, len(model.transformer_blocks)) if stretches else attend
    noise = evaluate_scenes.draw_noise(kind.asked.grid, seed)
    return kind.decode(evaluate_scenes.sample(model, noise, tokens[None], kind.asked.steps, way))[0]


def flicker(clip: Tensor) -> float:
    """Mean difference of luma that motion leaves unexplained, between latent frames. clip: (F, H, W, 3)."""
    pairs = [
        [to_picture(clip, i, "cpu") for i in (first, first + 1)] for first in range(EACH - 1, len(clip) - 1, 2 * EACH)
    ]
    return statistics.mean(measure_unexplained(*pair, find_motion(*pair))[0] for pair in pairs)


def evaluate(kind: Kind, samples: int, dense_steps: int, only: str):
    """Yields the cells of the table, a row for each pattern whose name has `only` in it."""
    model = demo.load_model(kind.asked.path)
    words, tokens = kind.choose(samples)
    asked = list(zip(range(1000, 1000 + samples), tokens))
    dense = [sample(kind, model, *one) for one in asked]
    yield "dense", "100%", "-", "-", *score(kind, dense, words)
    for name, row in ((name, row) for name, row in kind.patterns.items() if only in name):
        stretches = row[1].patterns(row[0]) if isinstance(row, tuple) else (row,)
        clips = [sample(kind, model, *one, stretches, dense_steps) for one in asked]
        ratios = [to_psnr((clip - truth).square().mean().item()) for clip, truth in zip(clips, dense)]
        each = [density(one, kind.asked.grid) for one in stretches]
        computed = None if None in each else statistics.mean(each)
        near = f"{statistics.mean(ratios):.1f}", f"{min(ratios):.1f}"
        yield name, "-" if computed is None else f"{computed:.0%}", *near, *score(kind, clips, words)


def score(kind: Kind, clips: list[Tensor], words: list) -> tuple[str, str, str]:
    """Flicker, jump in thousandths of the frame's width, share of what is right."""
    jumps, right = zip(*(kind.read(clip, said) for clip, said in zip(clips, words)))
    jumps = [jump for jump in jumps if not math.isnan(jump)]
    jump = f"{1000 * statistics.mean(jumps):.2f}" if jumps else "-"
    return f"{statistics.mean(map(flicker, clips)):.4f}", jump, f"{statistics.mean(right):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(KINDS), default="scenes", help="which demo model")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--everywhere", action="store_true", help="the pattern in all steps, none dense")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began, lines, kind = time.time(), [], KINDS[options.model]
    lines += ["| pattern | density | PSNR, dB | lowest | flicker | jump, thousandths | right |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    print("\n".join(lines))
    for cells in evaluate(kind, options.samples, 0 if options.everywhere else kind.asked.steps // 5, options.only):
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", f"{options.samples} clips each, {date.today().isoformat()}, {time.time() - began:.0f} s."]
    print("\n".join(lines[-2:]))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
