"""Train the model of scenes from nothing: rectified flow on two drawn shapes, in stages of growing grids.

    python scripts/train_scenes.py --stage 8 8 8 --batch 8 --minutes 40 --place-steps 100
    python scripts/train_scenes.py --stage 16 12 12 --batch 2 --minutes 90 --muon 0.005 --adam 1e-3 --resume

A stage ends after its own --steps or --minutes. --resume goes on from the last checkpoint; with another grid than its
own it begins a stage: rotary positions are stretched, so that a place in the frame and a moment of the clip keep
their angles, and the heads that look at neighbours are aimed again. On a busy machine two processes of one thread
(--workers 2) go several times as fast as one of two threads, which wait for each other in every operation.
"""

import argparse
import copy
import math
import os
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import place
import train_demo
from einops import rearrange
from muon import FAST, Muon
from scene_batches import make_batch
from train_demo import FRAME_RATE, export, make_optimisers, set_rates

from attention.demo import scene_codec, scene_prompt
from attention.demo.transformer import LTXConfig, LTXVideoTransformer

ROOT = Path(__file__).resolve().parents[1]
TRUNK = 2  # blocks that see all tokens: those that sense place
PROBED = 3  # blocks before the probe that reads a token's place
WORKERS_MOST = 64
EVERY = 25  # steps between lines of the log


def configure(grid: tuple[int, int, int], layers: int) -> LTXConfig:
    """The model's dims, its rotary positions stretched over `grid` as the first demo model's are over 8 x 8 x 8."""
    positions = train_demo.CONFIG.positional_embedding_max_pos
    return LTXConfig(
        num_layers=layers,
        num_attention_heads=4,
        attention_head_dim=64,
        cross_attention_dim=256,
        caption_channels=scene_prompt.CAPTION_CHANNELS,
        positional_embedding_max_pos=tuple(top * size / 8 for top, size in zip(positions, grid)),
    )


def parse(words=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", type=int, nargs=3, default=(8, 8, 8), metavar=("T", "Y", "X"))
    parser.add_argument("--steps", type=int, default=100000, help="of this stage")
    parser.add_argument("--minutes", type=float, default=40.0, help="of processor time of each worker in this stage")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread that share each batch")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--place-steps", type=int, default=0, help="first steps of the stage that train place only")
    parser.add_argument("--place-weight", type=float, default=0.1)
    parser.add_argument("--kept", type=float, default=0.5, help="share of the tokens that blocks behind the trunk get")
    parser.add_argument("--trunk-every", type=int, default=4, help="steps from one that trains the trunk to the next")
    parser.add_argument("--muon", type=float, default=0.01)
    parser.add_argument("--adam", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.995)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "output" / "train_scenes.pt")
    parser.add_argument("--plot", type=Path, help="write a picture of the losses here at the end")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "video-attention-scenes.safetensors")
    return parser.parse_args(words)


# How much the flow of each channel of a shape counts, by how far its edge moves when that is wrong.
COUNTS = (4.0, 4.0, 2.0, 2.0, 0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5)
NEAR = 0.3  # frame widths from a shape's centre within which its place counts most


def weigh(clip: Tensor) -> Tensor:
    """How much each channel of each token counts, about 1 on average, of latent tokens (B, L, ACTIVE) without noise."""
    shapes = clip[..., : scene_codec.ORDER].unflatten(-1, (2, scene_codec.SHAPE))
    square = (shapes[..., :2] / (NEAR * scene_codec.OFFSET)).square().sum(-1, keepdim=True)
    near = 0.3 + 1.5 * torch.exp(-square)
    counts = torch.tensor(COUNTS)
    pose = (near * counts[:5], counts[5:].expand(*near.shape[:-1], -1))
    return torch.cat((torch.cat(pose, -1).flatten(-2), torch.full_like(clip[..., :1], 0.5)), -1)


class Losses(torch.nn.Module):
    """The flow loss, and the loss of a linear probe that reads each token's place after the third block."""

    def __init__(self, model: LTXVideoTransformer, grid: tuple[int, int, int]):
        super().__init__()
        self.model, self.grid = model, grid
        self.probe = torch.nn.Linear(model.config.width, sum(grid))
        places = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
        self.places = [place.flatten() for place in places]
        self.tables = model.tables(grid, FRAME_RATE, "cpu")

    def forward(self, noisy, t, context, flow, kept: Tensor, deep: bool, whole: bool):
        """Returns weighted flow loss, place loss, flow loss, and the share of right places of each axis.

        kept: numbers of the tokens that go on behind the trunk; neighbours tell much the same, so a part of them
            teaches nearly as much (arXiv:2306.09305).
        deep: whether blocks behind the probe run.
        whole: whether the trunk is trained too.
        """
        model, grid = self.model, self.grid
        x, modulation, embedding, prompt = model.embed(noisy, t, context)
        with torch.set_grad_enabled(whole):
            for block in model.transformer_blocks[:TRUNK]:
                x = block(x, prompt, None, modulation, self.tables, grid)
        x, tables = x[:, kept], tuple(table[kept] for table in self.tables)
        for index, block in enumerate(model.transformer_blocks[TRUNK : None if deep else PROBED], TRUNK):
            x = block(x, prompt, None, modulation, tables, grid)
            if index == PROBED - 1:
                guesses = self.probe(F.layer_norm(x, x.shape[-1:])).float().split(grid, dim=-1)
        wants = [place[kept] for place in self.places]
        at = [F.cross_entropy(guess.flatten(0, 1), want.repeat(len(x))) for guess, want in zip(guesses, wants)]
        right = torch.stack([(guess.argmax(-1) == want).float().mean() for guess, want in zip(guesses, wants)])
        if not deep:
            return torch.zeros(()), sum(at), torch.zeros(()), right
        out = model.read_out(x, embedding)[..., : scene_codec.ACTIVE].float()
        flow, noisy = (rearrange(z, "b c t y x -> b (t y x) c")[:, kept] for z in (flow, noisy))
        square = (out - flow).square()
        weights = weigh(noisy[..., : scene_codec.ACTIVE] - t[:, None, None] * flow)
        return (square * weights).mean(), sum(at), square.mean(), right


class Run:
    """All that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace, rank: int = 0):
        if args.batch % args.workers or args.workers > WORKERS_MOST:
            raise ValueError(f"a batch of {args.batch} cannot be shared by {args.workers} workers")
        self.args, self.grid, self.rank = args, tuple(args.stage), rank
        self.step, self.spent, self.stages, self.curve = 0, 0.0, [], []
        state = torch.load(args.checkpoint) if args.resume else None
        model = train_demo.build(
            args.seed, state is None, configure(self.grid, args.layers), self.grid, scene_codec.ACTIVE
        )
        self.losses = Losses(model, self.grid)
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.optimisers = make_optimisers(self.losses, args.muon, args.adam, Muon)
        if state:
            self.restore(state)
        if args.workers > 1 and distributed.is_initialized():
            for parameter in self.losses.parameters():
                distributed.broadcast(parameter.data, 0)

    def restore(self, state: dict) -> None:
        """Go on with a stage, or begin the next one with the weights of the last."""
        self.stages, self.curve = state["stages"], state["curve"]
        self.average.load_state_dict(state["average"])
        if tuple(state["grid"]) == self.grid:
            self.losses.load_state_dict(state["losses"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"]):
                optimiser.load_state_dict(saved)
            self.step, self.spent = state["step"], state["spent"]
            return
        self.stages.append({name: state[name] for name in ("grid", "batch", "step", "spent")})
        for model in (self.losses.model, self.average):
            model.load_state_dict(state["average"])
            place.aim_looks(model, self.grid, FRAME_RATE, torch.Generator().manual_seed(self.args.seed))

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each whole or not at all."""
        state = {
            "losses": self.losses.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "grid": self.grid,
            "batch": self.args.batch,
            "step": self.step,
            "spent": self.spent,
            "stages": self.stages,
            "curve": self.curve,
        }
        self.args.checkpoint.parent.mkdir(exist_ok=True)
        partial = self.args.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.args.checkpoint)
        now = {name: state[name] for name in ("grid", "batch", "step", "spent")}
        export(self.average, self.args.out, {"stages": [*self.stages, now], "seed": self.args.seed})

    def take_step(self, forward, seconds: float) -> Tensor:
        """One batch; returns the share of right places of each axis. `seconds`: processor time since the last step."""
        args, deep = self.args, self.step >= self.args.place_steps
        seed = (args.seed * 1_000_003 + len(self.curve)) * WORKERS_MOST + self.rank
        generator = torch.Generator().manual_seed(seed)
        batch = make_batch(args.batch // args.workers, self.grid, generator)
        tokens = math.prod(self.grid)
        kept = torch.randperm(tokens, generator=generator)[: max(1, round(args.kept * tokens))]
        whole = not deep or self.step % args.trunk_every == 0
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST is torch.bfloat16):
            weighted, at, flow, right = forward(*batch, kept, deep, whole)
        (weighted + (args.place_weight if deep else 1.0) * at).backward()
        told = self.share(torch.cat((torch.stack((flow, at, weighted, torch.tensor(seconds))), right)).detach())
        torch.nn.utils.clip_grad_norm_(self.losses.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.losses.zero_grad(set_to_none=True)
        self.step += 1
        self.spent += told[3].item()
        decay = min(args.ema, self.step / (self.step + 20))
        torch._foreach_lerp_(
            list(self.average.parameters()), [p.data for p in self.losses.model.parameters()], 1 - decay
        )
        self.curve.append((told[0].item(), told[1].item() / 3, told[2].item()))
        return told[4:]

    def share(self, told: Tensor) -> Tensor:
        """Average the gradients, and the few numbers `told`, over the workers."""
        if self.args.workers == 1:
            return told
        gradients = [p.grad for p in self.losses.parameters() if p.grad is not None]
        flat = torch.cat([told.float(), *(gradient.flatten() for gradient in gradients)])
        distributed.all_reduce(flat)
        flat /= self.args.workers
        told, *parts = flat.split([len(told), *(gradient.numel() for gradient in gradients)])
        for gradient, part in zip(gradients, parts):
            gradient.copy_(part.view_as(gradient))
        return told


def train(args: argparse.Namespace, rank: int = 0) -> Run:
    """Train one stage to its end."""
    run = Run(args, rank)
    forward = run.losses if args.no_compile else torch.compile(run.losses)
    last, saved, wall = time.process_time(), run.spent, time.time()
    while run.step < args.steps and run.spent < 60 * args.minutes:
        set_rates(run.optimisers, run.step, max(run.step / args.steps, run.spent / (60 * args.minutes)))
        now = time.process_time()
        right = run.take_step(forward, now - last)
        last = now
        if run.step % EVERY == 0 and not rank:
            flow, at, weighted = torch.tensor(run.curve[-EVERY:]).mean(0).tolist()
            where = "/".join(f"{value:.2f}" for value in right.tolist())
            print(
                f"step {run.step} processor {run.spent / 60:.1f} wall {(time.time() - wall) / 60:.1f} min "
                f"flow {flow:.4f} weighted {weighted:.4f} place {at:.3f} right t/y/x {where}",
                flush=True,
            )
        if run.spent - saved > 60 * args.save_minutes:
            saved = run.spent
            if not rank:
                run.save()
    if not rank:
        run.save()
        if args.plot:
            train_demo.draw_curve(run.curve, args.plot)
    return run


def work(rank: int, args: argparse.Namespace, meeting: str) -> None:
    """One of the workers, a process of its own."""
    torch.set_num_threads(1)
    # Linux shares the processors out over sessions first: in one, the workers together would get what one process gets.
    if hasattr(os, "setsid"):
        os.setsid()
    # Long: a run may be halted with SIGSTOP.
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=args.workers, timeout=timedelta(days=7)
    )
    train(args, rank)
    distributed.destroy_process_group()


def main() -> None:
    args = parse()
    if args.workers == 1:
        train(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        workers = torch.multiprocessing.spawn(work, (args, f"{folder}/meeting"), nprocs=args.workers, join=False)
        try:
            while not workers.join():
                pass
        except KeyboardInterrupt:
            # Ctrl+C reaches this process alone. Killed: a halted worker would not end before it goes on.
            for process in workers.processes:
                process.kill()
            raise


if __name__ == "__main__":
    main()
