"""Train temporal blocks for a demo model whose self-attention is restricted to inside each frame.

    python scripts/train_temporal.py --minutes 55 --batch 1 --heads 2 --hidden 256
    python scripts/train_temporal.py --model small --minutes 20
    python scripts/train_temporal.py [--model scenes|small] --evaluate

The demo model stays as it is. With attention over all tokens it is the teacher; restricted to inside frames, with a
temporal block behind each of its blocks, it is to give the same tokens after every block and the same flow. In the
first part of the budget every block gets the teacher's tokens, so all blocks learn at once; then it gets those that
the blocks before it made. Writes models/video_attention_blocks/video-attention-temporal.safetensors, for scenes
video-attention-scenes-temporal.safetensors.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import evaluate_demo as demo
import evaluate_scenes
import scene_batches
from batches import Pool, make_batch
from demo_models import SCENES, SMALL, DemoModel

from attention.blocks import weights
from attention.blocks.temporal import TemporalBlocks, TemporalConfig
from attention.demo import codec, scene_codec
from attention.demo.transformer import attend, attend_inside_frames

ROOT = Path(__file__).resolve().parents[1]
FRAME_RATE = 25.0
# Of the first sample, as the models' own evaluations have it.
SEED = 1000


@dataclass(frozen=True)
class Kind:
    """A demo model that blocks are trained for.

    asked: its file, grid and steps. out: name of the blocks' file. active: channels of the latent that count.
    make_batches: of the command line, a function from a generator to noisy latents, times and prompts.
    measure: of the command line and a way to attend, (model, attention or None), its figures and up to 8 clips.
    """

    asked: DemoModel
    out: str
    active: int
    make_batches: Callable
    measure: Callable


def draw_shapes(args: argparse.Namespace) -> Callable:
    pool = Pool(args.pool, args.seed, args.work / f"train_temporal.pool{args.pool}")
    return lambda generator: make_batch(pool, args.batch, generator)[:3]


def draw_scenes(args: argparse.Namespace) -> Callable:
    return lambda generator: scene_batches.make_batch(args.batch, SCENES.grid, generator)[:3]


def measure_shapes(args: argparse.Namespace, model, attention) -> tuple[dict, list[torch.Tensor]]:
    words = demo.choose_words(args.samples)
    clips = demo.sample_clips(model, words, SMALL.grid, SEED, args.steps, attention)
    return demo.measure(clips, words), list(clips[:8])


def measure_scenes(args: argparse.Namespace, model, attention) -> tuple[dict, list[torch.Tensor]]:
    numbers = evaluate_scenes.choose_words(args.samples)
    make = evaluate_scenes.sample_rows(model, numbers, SCENES.grid, SEED, args.steps, attention)
    return evaluate_scenes.read_all(make, numbers)


KINDS = {
    "small": Kind(SMALL, "temporal", codec.ACTIVE, draw_shapes, measure_shapes),
    "scenes": Kind(SCENES, "scenes-temporal", scene_codec.ACTIVE, draw_scenes, measure_scenes),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=list(KINDS), default="scenes", help="which demo model")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--forced", type=float, default=0.4, help="part of the budget with the teacher's tokens")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pool", type=int, default=1024, help="clips drawn before training, of the small model")
    parser.add_argument("--heads", type=int, help="of the temporal attention; as many as the model has, if not told")
    parser.add_argument("--hidden", type=int, default=384, help="channels inside the feed-forward")
    parser.add_argument("--muon", type=float, default=0.01, help="learning rate of the matrices")
    parser.add_argument("--adam", type=float, default=2e-3, help="learning rate of all else")
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--teacher", type=Path, help="the model's file, if it is another than the pack's")
    parser.add_argument("--out", type=Path, help="the blocks' file, if it is another than the pack's")
    parser.add_argument("--work", type=Path, default=ROOT / "output", help="folder of what is kept between runs")
    parser.add_argument("--evaluate", action="store_true", help="measure the file instead of training")
    parser.add_argument("--samples", type=int, default=48, help="clips to measure")
    parser.add_argument("--steps", type=int, help="of each of them; those of the model's card, if not told")
    parser.add_argument("--sheet", type=Path, help="with --evaluate: write a contact sheet here")
    args = parser.parse_args()
    args.kind = KINDS[args.model]
    args.steps = args.steps or args.kind.asked.steps
    args.teacher = args.teacher or args.kind.asked.path
    args.out = args.out or ROOT / f"models/video_attention_blocks/video-attention-{args.kind.out}.safetensors"
    return args


def attend_with_matrices(q, k, v, mask=None):
    """Softmax attention written out: over eight frames faster to train through on a CPU than a fused kernel."""
    return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v


class Student:
    """The demo model inside frames, with temporal blocks; called like the demo model."""

    def __init__(self, model, blocks: TemporalBlocks):
        self.model, self.blocks = model, blocks

    def trace(self, latent, t, context, teacher=None):
        """Tokens (B, N, C) after every block, and the flow (B, 128, T, Y, X).

        teacher: the teacher's tokens after every block; each block then starts from those, and the flow is None.
        """
        grid = tuple(latent.shape[2:])
        x, modulation, embedding, words = self.model.embed(latent, t, context)
        tables = self.model.tables(grid, FRAME_RATE, latent.device)
        starts, traced = None if teacher is None else [x, *teacher], []
        for index, block in enumerate(self.model.transformer_blocks):
            x = x if starts is None else starts[index]
            x = block(x, words, None, modulation, tables, grid, attend_inside_frames)
            x = x + self.blocks(index, x, grid, attend_with_matrices)
            traced.append(x)
        return traced, None if teacher is not None else self.model.head(x, embedding, grid)

    def __call__(self, latent, t, context, self_attention=None):
        return self.trace(latent, t, context)[1]


@torch.no_grad()
def trace_teacher(model, latent, t, context):
    """Tokens after every block and the flow, with attention over all tokens."""
    x, modulation, embedding, words = model.embed(latent, t, context)
    grid, traced = tuple(latent.shape[2:]), []
    tables = model.tables(grid, FRAME_RATE, latent.device)
    for block in model.transformer_blocks:
        x = block(x, words, None, modulation, tables, grid, attend)
        traced.append(x)
    return traced, model.head(x, embedding, grid)


def find_loss(student: Student, batch, forced: bool, active: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum over blocks of the tokens' error in parts of their variance, plus the flow's; and the latter alone.

    active: channels of the flow that count.
    """
    latent, t, context = batch
    want, flow = trace_teacher(student.model, latent, t, context)
    got, guess = student.trace(latent, t, context, want if forced else None)
    loss = sum((a - b).square().mean() / b.var() for a, b in zip(got, want))
    if forced:
        return loss, None
    wrong = (guess - flow)[:, :active].square().mean() / flow[:, :active].var()
    return loss + 4 * wrong, wrong.detach()


def make_optimisers(blocks: TemporalBlocks, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for all else."""
    matrices = [p for p in blocks.parameters() if p.ndim == 2]
    rest = [p for p in blocks.parameters() if p.ndim != 2]
    return [
        torch.optim.Muon([{"params": matrices, "base": muon}], lr=muon, weight_decay=0.0, ns_steps=5),
        torch.optim.AdamW([{"params": rest, "base": adam}], lr=adam, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def set_rates(optimisers: list, step: int, share: float) -> None:
    """Warm-up over 20 steps, then a cosine down to 2 % at the end of the budget."""
    rate = min(1.0, (step + 1) / 20) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * group["base"]


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    model = demo.load_model(args.teacher).requires_grad_(False)
    generator = torch.Generator().manual_seed(args.seed)
    sizes, batch = model.config, args.kind.make_batches(args)
    heads, layers = args.heads or sizes.num_attention_heads, tuple(range(sizes.num_layers))
    config = TemporalConfig("LTXV", sizes.width, heads, sizes.attention_head_dim, args.hidden, layers)
    blocks = TemporalBlocks(config)
    average = copy.deepcopy(blocks).requires_grad_(False)
    optimisers, student = make_optimisers(blocks, args.muon, args.adam), Student(model, blocks)
    step, recent, began = 0, [], time.time()
    while (share := (time.time() - began) / (60 * args.minutes)) < 1:
        set_rates(optimisers, step, share)
        loss, wrong = find_loss(student, batch(generator), share < args.forced, args.kind.active)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(blocks.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        decay = min(args.ema, step / (step + 20))
        torch._foreach_lerp_(list(average.parameters()), [p.data for p in blocks.parameters()], 1 - decay)
        recent.append((loss.item(), math.nan if wrong is None else wrong.item()))
        if step % 25 == 0:
            loss, wrong = torch.tensor(recent[-25:]).mean(0).tolist()
            print(f"step {step} min {share * args.minutes:.1f} loss {loss:.4f} flow {wrong:.4f}", flush=True)
        if step % 100 == 0:
            export(average, args, step, share)
    export(average, args, step, 1.0)


def export(blocks: TemporalBlocks, args: argparse.Namespace, step: int, share: float) -> None:
    note = {"steps": step, "clips": step * args.batch, "minutes": round(share * args.minutes, 1), "seed": args.seed}
    weights.save(blocks, args.out, note=note)
    args.out.chmod(0o644)


def evaluate(args: argparse.Namespace) -> dict:
    """Figures of the three ways to run the demo model, on the seeds of its own evaluation."""
    model = demo.load_model(args.teacher)
    student = Student(model, weights.load(args.out).float())
    ways = {"joint": (model, attend), "inside frames": (model, attend_inside_frames), "with blocks": (student, None)}
    figures, sheets = {}, []
    for name, (run, way) in ways.items():
        figures[name], shown = args.kind.measure(args, run, way)
        sheets.append(shown)
        print(name, json.dumps(figures[name]), flush=True)
    if args.sheet:
        demo.draw_sheet([clip for three in zip(*sheets) for clip in three], args.sheet)
    ratio = {
        key: evaluate_scenes.divide(figures["with blocks"][key], figures["joint"][key])
        for key in ("jump", "jump_pixels", "pixel_flicker")
        if key in figures["joint"]
    }
    return {"ratio to joint": ratio, **figures, "samples": args.samples}


if __name__ == "__main__":
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    if arguments.evaluate:
        print(json.dumps(evaluate(arguments), indent=2))
    else:
        train(arguments)
