"""Measure the model of scenes: colour, form, direction, order and jumps of clips sampled from fixed seeds.

    python scripts/evaluate_scenes.py --weights output/video-attention-scenes.safetensors --json --sheet sheet.png
    python scripts/evaluate_scenes.py --codec --samples 24       drawn clips, encoded and decoded: PSNR of each

Samples like ComfyUI's LTXV path does: Euler, simple schedule, shift 2.37. The same seeds are sampled a second time
with self-attention restricted to inside each frame. Every clip is read by fixed rules (`scripts/read_scene.py`).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import read_scene
import scene_batches
import scenes
from demo_models import SCENES
from evaluate_demo import draw_sheet, list_sigmas, load_model, start_parser

from attention.demo import scene_codec, scene_prompt
from attention.demo.transformer import attend, attend_inside_frames
from attention.measure.compare import to_psnr

ROOT = Path(__file__).resolve().parents[1]
TOGETHER = 2  # clips sampled at once


@torch.no_grad()
def sample(model, noise: Tensor, words: Tensor, steps: int, self_attention=attend, cfg: float = 1.0) -> Tensor:
    """Euler steps from noise (B, 128, T, Y, X) to a latent of that shape; words: (B, 7, 64)."""
    sigmas, x = list_sigmas(steps), noise
    for sigma, following in zip(sigmas, sigmas[1:]):
        at = torch.full((len(x),), sigma)
        flow = model(x, at, words, self_attention=self_attention)
        if cfg != 1.0:
            without = model(x, at, torch.zeros_like(words), self_attention=self_attention)
            flow = without + cfg * (flow - without)
        x = x + (following - sigma) * flow
    return x


def choose_words(count: int, seed: int = 48) -> Tensor:
    """The numbers (B, 7) of prompts from a fixed seed; directions, forms and orders go around evenly."""
    words = scenes.draw_words(count, torch.Generator().manual_seed(seed))
    number = torch.arange(count)
    turn = (words[:, 5] - words[:, 2]) % 8
    words[:, 2], words[:, 1], words[:, 4] = number % 8, number % 4, (number + number // 4) % 4
    words[:, 5], words[:, 6] = (words[:, 2] + turn) % 8, number // 2 % 2
    return words


def compare(clip: Tensor, words: tuple[str, ...]) -> dict[str, list[bool]]:
    """What of a clip (F, H, W, 3) is as its seven words say; shapes are found by the colours asked for."""
    seen = read_scene.read_scene(clip, (words[0], words[3]))
    wanted = scene_prompt.FRONTS.index(words[6])
    return {
        "colour": [name in seen.colours for name in (words[0], words[3])],
        "form": [form == word for form, word in zip(seen.forms, (words[1], words[4]))],
        "direction": [way == word for way, word in zip(seen.directions, (words[2], words[5]))],
        "order": [seen.front == wanted],
        "jump": [seen.jump],
    }


def summarise(readings: list[dict]) -> dict[str, float | None]:
    """Shares of what is right, and the mean jump in frame widths over the clips that have one; None without any."""
    result = {}
    for name in readings[0]:
        values = [float(value) for reading in readings for value in reading[name]]
        values = [value for value in values if not math.isnan(value)]
        result[name] = sum(values) / len(values) if values else None
    return result


def divide(one: float | None, other: float | None) -> float | None:
    """A ratio; None where there is none, so that the figures are JSON."""
    return None if one is None or not other else one / other


def measure_codec(samples: int) -> dict:
    """PSNR in dB, the least first, of drawn clips (64 frames of 128 x 128, a seed each from 0), encoded and decoded."""
    found = []
    for seed in range(samples):
        generator = torch.Generator().manual_seed(seed)
        clip = scenes.draw_clip(scenes.draw_scene(scenes.draw_words(1, generator), generator), 64, 128)
        found.append(to_psnr((scene_codec.decode(scene_codec.encode(clip)) - clip).square().mean().item()))
    return {"psnr": [round(value, 1) for value in sorted(found)]}


def parse() -> argparse.Namespace:
    parser = start_parser(__doc__, ROOT / "output" / SCENES.file, SCENES.grid)
    parser.add_argument("--drawn", action="store_true", help="read the drawn truth instead of samples")
    parser.add_argument("--codec", action="store_true", help="encode and decode drawn clips; nothing is sampled")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="sample in bfloat16: faster on processors with AMX")
    return parser.parse_args()


def draw_noise(grid: tuple[int, int, int], seed: int) -> Tensor:
    """A sample's noise (1, 128, T, Y, X)."""
    return torch.randn(1, scene_codec.CHANNELS, *grid, generator=torch.Generator().manual_seed(seed))


def sample_rows(model, numbers: Tensor, grid, seed: int, steps: int, attention, cfg: float = 1.0) -> Callable:
    """A function from row numbers to the latents of these prompts (B, 7), each with a seed of its own from `seed`."""
    tokens = scene_prompt.encode_numbers(numbers)

    def make(rows: Tensor) -> Tensor:
        noise = torch.cat([draw_noise(grid, seed + row) for row in rows.tolist()])
        return sample(model, noise, tokens[rows], steps, attention, cfg)

    return make


def list_ways(args: argparse.Namespace):
    """Yield names and functions from row numbers to latents: the drawn truth, or each way to attend."""
    numbers, model = choose_words(args.samples), None if args.drawn else load_model(args.weights)
    drawn = scenes.draw_scene(numbers, torch.Generator().manual_seed(args.seed))
    if args.drawn:
        yield "drawn", lambda rows: scene_batches.draw_latent(drawn.take(rows), args.grid)
        return
    for name, attention in (("joint", attend), ("inside_frames", attend_inside_frames))[: 2 - args.joint_only]:
        yield name, sample_rows(model, numbers, args.grid, args.seed, args.steps, attention, args.cfg)


def read_all(make: Callable, numbers: Tensor, bfloat16: bool = False) -> tuple[dict, list[Tensor]]:
    """Figures of the clips of prompts (B, 7), and some frames of the first eight.

    make: from row numbers to latents.
    """
    words, readings, shown = scene_prompt.name_numbers(numbers), [], []
    for rows in torch.arange(len(numbers)).split(TOGETHER):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            latents = make(rows).float()
        for row, latent in zip(rows.tolist(), latents):
            clip = scene_codec.decode(latent[None])[0]
            readings.append(compare(clip, words[row]))
            shown += [clip[:: max(1, len(clip) // 8)]] if row < 8 else []
    return summarise(readings), shown


def evaluate(args: argparse.Namespace) -> dict:
    """Figures of every way to attend, and what ties them."""
    began, figures, sheets, numbers = time.time(), {}, [], choose_words(args.samples)
    for name, make in list_ways(args):
        figures[name], shown = read_all(make, numbers, args.bfloat16)
        sheets.append(shown)
    if args.sheet:
        draw_sheet([clip for pair in zip(*sheets) for clip in pair], args.sheet)
    if "inside_frames" in figures:
        figures["jump_ratio"] = divide(figures["inside_frames"]["jump"], figures["joint"]["jump"])
    told = {name: getattr(args, name) for name in ("samples", "steps", "cfg", "seed", "grid", "bfloat16")}
    return figures | told | {"tokens": math.prod(args.grid), "seconds": round(time.time() - began, 1)}


if __name__ == "__main__":
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    found = measure_codec(arguments.samples) if arguments.codec else evaluate(arguments)
    print(json.dumps(found) if arguments.json else json.dumps(found, indent=2))
