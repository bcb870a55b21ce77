"""Measure the demo model: colour, direction and flicker of clips sampled from fixed seeds, without ComfyUI.

    python scripts/evaluate_demo.py --json --sheet models/samples.png

Samples like ComfyUI's LTXV path does: Euler, simple schedule, shift 2.37. The same seeds are sampled a second time
with self-attention restricted to inside each frame.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from safetensors import safe_open
from safetensors.torch import load_file

from attention.demo import codec, prompt
from attention.demo.transformer import LTXConfig, LTXVideoTransformer, attend, attend_inside_frames

ROOT = Path(__file__).resolve().parents[1]
SHIFT = 2.37


def load_model(path: Path) -> LTXVideoTransformer:
    """A model in float32 from a file in the host's form."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])["transformer"]
    model = LTXVideoTransformer(LTXConfig.from_metadata(config)).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return model


def list_sigmas(steps: int) -> list[float]:
    """Noise levels from 1 to 0, `steps` + 1 of them."""
    times = [1 - index / steps for index in range(steps)]
    return [math.exp(SHIFT) / (math.exp(SHIFT) + 1 / time - 1) for time in times] + [0.0]


@torch.no_grad()
def sample(model, noise: Tensor, words: Tensor, steps: int, cfg: float, self_attention=attend) -> Tensor:
    """Euler steps from noise (B, 128, T, Y, X) to a latent of that shape; words: (B, 3, 32)."""
    empty = prompt.empty_prompt()[0].expand_as(words)
    sigmas, x = list_sigmas(steps), noise
    for sigma, following in zip(sigmas, sigmas[1:]):
        time = torch.full((len(x),), sigma)
        flow = model(x, time, words, self_attention=self_attention)
        if cfg != 1.0:
            without = model(x, time, empty, self_attention=self_attention)
            flow = without + cfg * (flow - without)
        x = x + (following - sigma) * flow
    return x


def choose_words(count: int) -> list[tuple[str, str, str]]:
    """Prompts that go through all directions, colours and shapes evenly."""
    return [
        (prompt.COLOURS[(index + index // 8) % 8], prompt.SHAPES[index % 3], prompt.DIRECTIONS[index % 8])
        for index in range(count)
    ]


def find_shape(clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the shape is: weight (F,) in frame areas, and its centre's row and column (F,) in frame widths.

    clip: (F, H, W, 3). The weight of a pixel is its distance from grey.
    """
    weight = (clip - codec.GREY).norm(dim=-1) / (math.sqrt(3.0) * codec.DEPTH)
    weight = torch.where(weight > 0.25, weight, 0.0)
    total = weight.sum((1, 2)).clamp(min=1e-6)
    rows, columns = ((torch.arange(size) + 0.5) / size for size in weight.shape[1:])
    return weight.mean((1, 2)), (weight.sum(2) @ rows) / total, (weight.sum(1) @ columns) / total


def read_colour(clip: Tensor) -> str:
    """The palette colour nearest to the mean deviation from grey of the pixels that deviate; clip: (F, H, W, 3)."""
    away = clip - codec.GREY
    mean = away[away.norm(dim=-1) > 0.25].mean(0)
    return max(prompt.COLOURS, key=lambda name: sum(a * s for a, s in zip(mean.tolist(), prompt.COLOUR_SIGNS[name])))


def read_direction(rows: Tensor, columns: Tensor) -> str:
    """The direction nearest to the straight line fitted to the shape's centres (F,)."""
    time = torch.arange(len(rows)).float()
    time = time - time.mean()
    angle = math.atan2((time @ rows).item(), (time @ columns).item())
    return prompt.DIRECTIONS[round(angle / (math.pi / 4)) % 8]


def measure(clips: Tensor, words: list[tuple[str, str, str]]) -> dict:
    """Shares of right colours and directions, size, and flicker; clips: (B, F, H, W, 3)."""
    colour, direction, size, jump, pixel = [], [], [], [], []
    for clip, (want_colour, _, want_direction) in zip(clips, words):
        area, rows, columns = find_shape(clip)
        colour.append(read_colour(clip) == want_colour)
        direction.append(read_direction(rows, columns) == want_direction)
        size.append(area.mean().item())
        jump.append((rows.diff(n=2).square() + columns.diff(n=2).square()).sqrt().mean().item() * 256)
        pixel.append(clip.diff(n=2, dim=0).abs().mean().item())

    def mean(values):
        return sum(values) / len(values)

    return {
        "colour_accuracy": mean(colour),
        "direction_accuracy": mean(direction),
        "shape_area": mean(size),
        "jump_pixels": mean(jump),
        "pixel_flicker": mean(pixel),
    }


def draw_sheet(rows: list[Tensor], path: Path) -> None:
    """One row of eight small frames per clip (F, H, W, 3)."""
    from PIL import Image

    strips = []
    for clip in rows:
        small = clip[:: max(1, len(clip) // 8)][:8].movedim(-1, 1)
        small = torch.nn.functional.interpolate(small, (128, 128), mode="area")
        strips.append(
            torch.nn.functional.pad(small, (2, 2, 2, 2), value=1.0).movedim(1, -1).permute(1, 0, 2, 3).flatten(1, 2)
        )
    picture = Image.fromarray((torch.cat(strips) * 255).round().byte().numpy())
    # A palette: a third of the bytes, and few colours are there.
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def start_parser(text: str, weights: Path, grid: tuple[int, int, int]) -> argparse.ArgumentParser:
    """The options of every script that samples a model of this pack and measures its clips.

    text: of the script; its first line is shown.
    weights, grid: what there is without these options.
    """
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=weights)
    parser.add_argument("--samples", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--grid", type=int, nargs=3, default=grid, metavar=("T", "Y", "X"))
    parser.add_argument("--joint-only", action="store_true", help="leave out the run inside frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first samples here")
    return parser


def parse() -> argparse.Namespace:
    weights = ROOT / "models/diffusion_models/video-attention-demo.safetensors"
    return start_parser(__doc__, weights, (8, 8, 8)).parse_args()


def sample_clips(model, words: list, grid, seed: int, steps: int, attention, cfg: float = 1.0) -> Tensor:
    """Clips (B, F, H, W, 3) of these prompts, each with a seed of its own from `seed`."""
    seeds = (torch.Generator().manual_seed(seed + n) for n in range(len(words)))
    noise = torch.stack([torch.randn(128, *grid, generator=one) for one in seeds])
    tokens = torch.cat([prompt.encode_prompt(*three)[0] for three in words])
    parts = zip(noise.split(8), tokens.split(8))
    return torch.cat([codec.decode(sample(model, *part, steps, cfg, attention)) for part in parts])


def evaluate(args: argparse.Namespace) -> dict:
    began, model = time.time(), load_model(args.weights)
    words = choose_words(args.samples)
    figures, sheets = {}, []
    ways = {"joint": attend} if args.joint_only else {"joint": attend, "inside_frames": attend_inside_frames}
    for name, attention in ways.items():
        decoded = sample_clips(model, words, args.grid, args.seed, args.steps, attention, args.cfg)
        figures[name] = measure(decoded, words)
        sheets.append(decoded[:8])
    if args.sheet:
        draw_sheet([clip for pair in zip(*sheets) for clip in pair], args.sheet)
    joint = figures["joint"]
    result = {"colour_accuracy": joint["colour_accuracy"], "direction_accuracy": joint["direction_accuracy"]}
    if "inside_frames" in figures:
        inside = figures["inside_frames"]
        result["flicker_ratio_spatial_only"] = inside["jump_pixels"] / joint["jump_pixels"]
        result["pixel_flicker_ratio_spatial_only"] = inside["pixel_flicker"] / joint["pixel_flicker"]
    return (
        result
        | figures
        | {
            "samples": args.samples,
            "steps": args.steps,
            "cfg": args.cfg,
            "grid": list(args.grid),
            "tokens": math.prod(args.grid),
            "seconds": round(time.time() - began, 1),
        }
    )


if __name__ == "__main__":
    torch.set_num_threads(2)
    arguments = parse()
    figures = evaluate(arguments)
    print(json.dumps(figures) if arguments.json else json.dumps(figures, indent=2))
