"""Train the demo video transformer from nothing: rectified flow on synthetic clips, made while it runs.

    python scripts/train_demo.py --minutes 45

Stops after --steps or --minutes; --resume goes on from the last checkpoint. The learning rate follows the share of
the budget used. Writes models/diffusion_models/video-attention-demo.safetensors in the form that ComfyUI's LTXV loader
reads.
"""

import argparse
import copy
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import place
from batches import GRID, Pool, make_batch
from safetensors.torch import save_file

from attention.demo import codec
from attention.demo.transformer import LTXConfig, LTXVideoTransformer

ROOT = Path(__file__).resolve().parents[1]
FRAME_RATE = 25.0
# Puts the third head's rotary pairs between 1/40 and 1/8 turn per token: one head sees the whole frame smoothly.
CONFIG = LTXConfig(positional_embedding_max_pos=(107.0, 10700.0, 10700.0))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100000)
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--pool", type=int, default=4096, help="clips drawn before training; colours are drawn anew each step"
    )
    parser.add_argument("--place-steps", type=int, default=0, help="first steps that train the sense of place only")
    parser.add_argument("--place-weight", type=float, default=0.1)
    parser.add_argument("--no-place", action="store_true", help="start without the place heads")
    parser.add_argument("--muon", type=float, default=0.01, help="learning rate of the matrices; 0 = AdamW for all")
    parser.add_argument("--adam", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "output" / "train_demo.pt")
    parser.add_argument("--plot", type=Path, help="write a picture of the losses here at the end")
    parser.add_argument("--out", type=Path, default=ROOT / "models/diffusion_models/video-attention-demo.safetensors")
    return parser.parse_args()


def attend_with_matrices(q, k, v, grid):
    """Softmax attention written out; on two CPU cores 20 % faster to train through than the fused kernel."""
    return ((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5).softmax(-1) @ v


class Losses(torch.nn.Module):
    """The flow loss, and the loss of a linear probe that reads each token's place after the third block."""

    def __init__(self, model: LTXVideoTransformer, device: str):
        super().__init__()
        self.model = model
        self.probe = torch.nn.Linear(model.config.width, sum(GRID))
        places = torch.meshgrid(*(torch.arange(size) for size in GRID), indexing="ij")
        self.places = [place.flatten().to(device) for place in places]
        self.tables = model.tables(GRID, FRAME_RATE, device)
        self.depth = 3

    def forward(self, noisy, t, context, flow, deep: bool):
        """Returns flow loss, place loss, and the share of right places of each axis."""
        model = self.model
        x, modulation, embedding, prompt = model.embed(noisy, t, context)
        for index, block in enumerate(model.transformer_blocks[: None if deep else self.depth]):
            x = block(x, prompt, None, modulation, self.tables, GRID, attend_with_matrices)
            if index == self.depth - 1:
                guesses = self.probe(F.layer_norm(x, x.shape[-1:])).float().split(GRID, dim=-1)
        at = [F.cross_entropy(guess.flatten(0, 1), want.repeat(len(x))) for guess, want in zip(guesses, self.places)]
        right = torch.stack([(guess.argmax(-1) == want).float().mean() for guess, want in zip(guesses, self.places)])
        if not deep:
            return torch.zeros(()), sum(at), right
        out = model.head(x, embedding, GRID)
        return (out[:, : codec.ACTIVE].float() - flow).square().mean(), sum(at), right


def make_optimisers(losses: Losses, muon: float, adam: float, muon_class=torch.optim.Muon) -> list:
    """Muon for the matrices inside the blocks, AdamW for the rest; the place heads keep slow AdamW."""
    matrices, slow, rest = [], [], []
    for name, parameter in losses.named_parameters():
        early = any(
            f"transformer_blocks.{index}.attn1.{part}" in name
            for index in (0, 1)
            for part in ("to_q", "to_k", "q_norm", "k_norm")
        )
        inside = "transformer_blocks" in name and parameter.ndim == 2 and "table" not in name
        (slow if early else matrices if inside and muon else rest).append(parameter)
    groups = [{"params": rest, "lr": adam, "base": adam}, {"params": slow, "lr": adam / 4, "base": adam / 4}]
    optimisers = [torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)]
    if matrices:
        optimisers.append(muon_class([{"params": matrices, "base": muon}], lr=muon, weight_decay=0.01))
    return optimisers


def build(
    seed: int, use_place: bool, config: LTXConfig = CONFIG, grid=GRID, active: int = codec.ACTIVE
) -> LTXVideoTransformer:
    torch.manual_seed(seed)
    model = LTXVideoTransformer(config)
    with torch.no_grad():
        model.proj_out.weight[active:] = 0.0
        model.proj_out.bias[active:] = 0.0
        # The gates start open and the timestep starts with little say in the blocks.
        model.adaln_single.linear.weight.mul_(0.1)
        model.adaln_single.linear.bias.zero_()
        for block in model.transformer_blocks:
            block.scale_shift_table[[2, 5]] = 1.0
            block.attn1.to_out[0].weight.mul_(0.5)
            block.ff.net[2].weight.mul_(0.5)
    if use_place:
        place.give_place(model, grid, FRAME_RATE, torch.Generator().manual_seed(seed), active)
    return model


def export(model: LTXVideoTransformer, path: Path, note: dict) -> None:
    """Write the weights as float16 with the host's config in the metadata."""
    path.parent.mkdir(exist_ok=True)
    metadata = {"config": json.dumps({"transformer": model.config.to_metadata()}), "training": json.dumps(note)}
    partial = path.with_suffix(".partial")
    save_file(
        {name: value.detach().half().contiguous().cpu() for name, value in model.state_dict().items()},
        partial,
        metadata=metadata,
    )
    partial.chmod(0o644)
    partial.replace(path)


def set_rates(optimisers: list, step: int, share: float) -> None:
    """Warm-up over 100 steps, then a cosine down to 2 % at the end of the budget."""
    rate = min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * group["base"]


def draw_curve(curve: list[tuple[float, float]], path: Path) -> None:
    """Picture of the flow loss (mean of 25 steps) and the place loss over steps."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = torch.tensor(curve)
    values = values[: len(values) // 25 * 25].unflatten(0, (-1, 25)).mean(1)
    steps = 25 * torch.arange(1, len(values) + 1)
    figure, axis = pyplot.subplots(figsize=(8, 4), dpi=110)
    for column, label in enumerate(("flow loss of the used channels", "place loss of the probe, mean of the axes")):
        kept = values[:, column] > 0
        axis.semilogy(steps[kept], values[kept, column], label=label)
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path)


class Run:
    """All that a checkpoint holds."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.step, self.spent, self.curve = args, 0, 0.0, []
        self.generator = torch.Generator().manual_seed(args.seed)
        self.losses = Losses(build(args.seed, not args.no_place).to(args.device), args.device).to(args.device)
        self.average = copy.deepcopy(self.losses.model).requires_grad_(False)
        self.optimisers = make_optimisers(self.losses, args.muon, args.adam)
        if args.resume:
            self.restore(torch.load(args.checkpoint))

    def restore(self, state: dict) -> None:
        self.losses.load_state_dict(state["losses"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.step, self.spent, self.curve = state["step"], state["spent"], state["curve"]

    def save(self) -> None:
        state = {
            "losses": self.losses.state_dict(),
            "average": self.average.state_dict(),
            "generator": self.generator.get_state(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "spent": self.spent,
            "curve": self.curve,
        }
        torch.save(state, self.args.checkpoint)
        note = {
            "steps": self.step,
            "clips": self.step * self.args.batch,
            "minutes": round(self.spent / 60, 1),
            "seed": self.args.seed,
        }
        export(self.average, self.args.out, note)

    def take_step(self, forward, pool: Pool) -> torch.Tensor:
        """One batch; returns the share of right places of each axis."""
        args, deep = self.args, self.step >= self.args.place_steps
        batch = [x.to(args.device) for x in make_batch(pool, args.batch, self.generator)]
        with torch.autocast(args.device, torch.bfloat16):
            flow, at, right = forward(*batch, deep)
        (flow + (args.place_weight if deep else 1.0) * at).backward()
        torch.nn.utils.clip_grad_norm_(self.losses.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.losses.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(args.ema, self.step / (self.step + 20))
        torch._foreach_lerp_(
            list(self.average.parameters()), [p.data for p in self.losses.model.parameters()], 1 - decay
        )
        self.curve.append((flow.item(), at.item() / 3))
        return right


def train(args: argparse.Namespace) -> None:
    run = Run(args)
    pool = Pool(args.pool, args.seed, Path(f"{args.checkpoint}.pool{args.pool}"))
    forward = run.losses if args.no_compile else torch.compile(run.losses)
    began, bar = time.time() - run.spent, tqdm(total=args.steps, initial=run.step, ncols=110, mininterval=10)
    while run.step < args.steps and run.spent < 60 * args.minutes:
        set_rates(run.optimisers, run.step, max(run.step / args.steps, run.spent / (60 * args.minutes)))
        right = run.take_step(forward, pool)
        run.spent = time.time() - began
        bar.update()
        if run.step % 50 == 0:
            flow, at = torch.tensor(run.curve[-50:]).mean(0).tolist()
            where = "/".join(f"{value:.2f}" for value in right.tolist())
            tqdm.write(
                f"step {run.step} min {run.spent / 60:.1f} flow {flow:.4f} place {at:.3f} right t/y/x {where}",
                file=sys.stdout,
            )
            sys.stdout.flush()
        if run.step % 250 == 0:
            run.save()
    run.save()
    if args.plot:
        draw_curve(run.curve, args.plot)


if __name__ == "__main__":
    torch.set_num_threads(2)
    train(parse())
