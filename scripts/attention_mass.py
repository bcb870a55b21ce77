"""Show how unevenly a demo model attends: the share of attention in the fifth of key blocks that has most of it.

    python scripts/attention_mass.py --weights output/video-attention-scenes.safetensors --picture mass.png

Attention that is the same everywhere has 20 % of its mass in any fifth of the blocks; what a sparse pattern can leave
out is what the other blocks have. Blocks are 64 tokens in a row, as kernels take them; of each block of queries the
best fifth is its own. Means over some steps of one sample.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

from demo_models import SCENES
from evaluate_demo import list_sigmas, load_model
from evaluate_scenes import choose_words, draw_noise

from attention.core.torch_sdpa import sdpa
from attention.demo import scene_prompt

ROOT = Path(__file__).resolve().parents[1]
BLOCK, BEST = 64, 0.2


def measure_mass(q: Tensor, k: Tensor, block: int = BLOCK, best: float = BEST) -> Tensor:
    """Share of the mass in the best part of the key blocks, mean over query blocks, (H,); q, k: (1, H, L, D)."""
    weights = (q[0].float() @ k[0].float().transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    rows, columns = (-(-size // block) for size in weights.shape[1:])
    lost = [part * block - size for part, size in zip((columns, rows), weights.shape[:0:-1])]
    weights = torch.nn.functional.pad(weights, (0, lost[0], 0, lost[1]))
    mass = weights.unflatten(1, (rows, block)).unflatten(3, (columns, block)).sum((2, 4))
    mass = mass / mass.sum(-1, keepdim=True)
    return mass.topk(max(1, round(best * columns)), -1).values.sum(-1).mean(1)


@torch.no_grad()
def sample_mass(model, noise: Tensor, words: Tensor, steps: int, looked: int) -> Tensor:
    """Sample with Euler steps and measure at `looked` of them, evenly; returns (looked, blocks, H)."""
    sigmas, x, found = list_sigmas(steps), noise, []
    at = set(torch.linspace(0, steps - 1, looked).round().int().tolist())
    for number, (sigma, following) in enumerate(zip(sigmas, sigmas[1:])):
        masses = []

        def attend(q, k, v, grid, masses=masses, looking=number in at):
            if looking:
                masses.append(measure_mass(q, k))
            return sdpa(q, k, v)

        x = x + (following - sigma) * model(x, torch.full((1,), sigma), words, self_attention=attend)
        found += [torch.stack(masses)] if masses else []
    return torch.stack(found)


def draw_picture(mass: Tensor, path: Path) -> None:
    """A square for each block and head of (blocks, H) with its share in words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(1.2 + 0.9 * mass.shape[1], 1 + 0.5 * mass.shape[0]), dpi=110)
    axis.imshow(mass, vmin=BEST, vmax=1, cmap="viridis", aspect="auto")
    for (block, head), share in zip(torch.cartesian_prod(*map(torch.arange, mass.shape)).tolist(), mass.flatten()):
        colour = "white" if share < 0.7 else "black"
        axis.text(head, block, f"{100 * share:.0f} %", ha="center", va="center", color=colour)
    axis.set(xlabel="head", ylabel="block", xticks=range(mass.shape[1]), yticks=range(mass.shape[0]))
    axis.set_title(f"attention in the best {100 * BEST:.0f} % of key blocks")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=ROOT / "output" / "video-attention-scenes.safetensors")
    parser.add_argument("--grid", type=int, nargs=3, default=SCENES.grid, metavar=("T", "Y", "X"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--looked", type=int, default=5, help="steps that are looked at")
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    words = scene_prompt.encode_numbers(choose_words(1))
    found = sample_mass(load_model(args.weights), draw_noise(args.grid, args.seed), words, args.steps, args.looked)
    mass = found.mean(0)
    if args.picture:
        draw_picture(mass, args.picture)
    rounded = [[round(share, 3) for share in row] for row in mass.tolist()]
    print(json.dumps({"mass": rounded, "mean": round(mass.mean().item(), 3), "uniform": BEST}))


if __name__ == "__main__":
    main()
