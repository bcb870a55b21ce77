"""What each attention pattern changes in the demo model's clips: PSNR against dense attention, flicker, direction.

    python scripts/evaluate_patterns.py [--samples 16] [--everywhere] [--only TEXT] [--out FILE.md]

Same prompts, seeds and sampler as evaluate_demo.py, by the pack's engines, without ComfyUI. The first fifth of the
steps is dense, as Video Attention Sparse Pattern has it by default.
"""

import argparse
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import evaluate_demo as demo
from batches import GRID

from attention import patterns
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.tokens import BOTH, VideoSpan
from attention.demo import codec, prompt
from attention.demo.transformer import attend
from attention.measure.frames import to_picture
from attention.measure.motion import find_motion, measure_unexplained
from attention.patterns.density import density
from attention.patterns.ramp import COSINE, Ramp
from attention.sparse.engine_registry import runners

STEPS = 20
# Frames of one latent frame come from the same tokens: what jumps, jumps between these. Every second joint counts.
EACH = 8
PATTERNS = {
    "temporal window, 5 frames": patterns.TemporalWindow(5),
    "sliding tile, 4 frames, 50 %": patterns.SlidingTile(4, 50, 50, (1, 2, 2)),
    "neighbourhood, 5 frames, 60 %": patterns.Neighbourhood(5, 60, 60),
    "radial, keep 100 %": patterns.Radial(step=8),
    "radial, keep 40 %": patterns.Radial(40, step=8),
    "top blocks, 20 %": patterns.TopBlocks(20),
    "top blocks, 20 %, with tail": patterns.TopBlocks(20, tail=True),
    "blocks by mass, 50 %, with tail": patterns.MassBlocks(50, tail=True),
    "spatial or temporal": patterns.Union((patterns.Spatial(), patterns.Temporal())),
    "spatial and temporal, in turn": patterns.Factorised(),
    "spatial and temporal, averaged": patterns.Factorised(0.5),
    "spatial": patterns.Spatial(),
    "temporal": patterns.Temporal(),
    # Of 8 key blocks each percentage keeps whole ones: a ramp and its reverse keep equally many, 4.4 on average.
    "top blocks over time, 50 %": patterns.TopBlocks(50, tail=True),
    "top blocks over time, 62 %": patterns.TopBlocks(62, tail=True),
    "top blocks over time, 75 to 25 %": (patterns.TopBlocks(75, tail=True), Ramp(25)),
    "top blocks over time, 25 to 75 %": (patterns.TopBlocks(25, tail=True), Ramp(75)),
    "top blocks over time, 75 to 25 %, cosine": (patterns.TopBlocks(75, tail=True), Ramp(25, COSINE)),
}


class Shaped:
    """Self-attention of the demo model by a pattern, dense in the first steps. Counts its calls to know where it is.

    stretches: patterns, each for an equal part of the other steps.
    """

    def __init__(self, stretches: tuple, dense_steps: int, layers: int):
        self.stretches, self.layers, self.calls = stretches, layers, 0
        self.dense_calls, self.shaped_calls = dense_steps * layers, (STEPS - dense_steps) * layers

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


def sample(model, noise: Tensor, words: Tensor, stretches: tuple = (), dense_steps: int = 0) -> Tensor:
    """Clips (B, F, H, W, 3). stretches: see Shaped; none: dense."""
    parts = []
    for n in range(0, len(noise), 8):
        way = Shaped(stretches, dense_steps, len(model.transformer_blocks)) if stretches else attend
        parts.append(demo.sample(model, noise[n : n + 8], words[n : n + 8], STEPS, 1.0, way))
    return torch.cat([codec.decode(part) for part in parts])


def flicker(clip: Tensor) -> float:
    """Mean difference of luma that motion leaves unexplained, between latent frames. clip: (F, H, W, 3)."""
    pairs = [
        [to_picture(clip, i, "cpu") for i in (first, first + 1)] for first in range(EACH - 1, len(clip) - 1, 2 * EACH)
    ]
    return statistics.mean(measure_unexplained(*pair, find_motion(*pair))[0] for pair in pairs)


def psnr(clip: Tensor, dense: Tensor) -> float:
    return -10 * (clip - dense).square().mean().log10().item()


def evaluate(samples: int, dense_steps: int, only: str):
    """Yields the cells of the table, a row for each pattern whose name has `only` in it."""
    model = demo.load_model(demo.ROOT / "models/diffusion_models/video-attention-demo.safetensors")
    words = demo.choose_words(samples)
    seeds = (torch.Generator().manual_seed(1000 + n) for n in range(samples))
    noise = torch.stack([torch.randn(128, *GRID, generator=seed) for seed in seeds])
    tokens = torch.cat([prompt.encode_prompt(*three)[0] for three in words])
    dense = sample(model, noise, tokens)
    yield "dense", "100%", "-", "-", *score(dense, words)
    for name, row in ((name, row) for name, row in PATTERNS.items() if only in name):
        stretches = row[1].patterns(row[0]) if isinstance(row, tuple) else (row,)
        clips = sample(model, noise, tokens, stretches, dense_steps)
        ratios = [psnr(clip, truth) for clip, truth in zip(clips, dense)]
        each = [density(one, GRID) for one in stretches]
        computed = None if None in each else statistics.mean(each)
        near = f"{statistics.mean(ratios):.1f}", f"{min(ratios):.1f}"
        yield name, "-" if computed is None else f"{computed:.0%}", *near, *score(clips, words)


def score(clips: Tensor, words: list) -> tuple[str, str, str]:
    """Flicker, jump in pixels, share of right directions."""
    figures = demo.measure(clips, words)
    shaking = statistics.mean(map(flicker, clips))
    return f"{shaking:.4f}", f"{figures['jump_pixels']:.2f}", f"{figures['direction_accuracy']:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--everywhere", action="store_true", help="the pattern in all steps, none dense")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="write the table here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began, lines = time.time(), []
    lines += ["| pattern | density | PSNR, dB | lowest | flicker | jump, pixels | direction right |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    print("\n".join(lines))
    for cells in evaluate(options.samples, 0 if options.everywhere else STEPS // 5, options.only):
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", f"{options.samples} clips each, {date.today().isoformat()}, {time.time() - began:.0f} s."]
    print("\n".join(lines[-2:]))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
