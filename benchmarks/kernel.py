"""Our Triton kernel beside the others: dense, and by lists of key blocks at several densities. Needs a CUDA GPU.

    python -m benchmarks.kernel [--tokens N,...] [--head-dims D,...] [--densities P,...] [--heads H] [--rounds R]
                                [--json FILE]
    python -m benchmarks.kernel floors        (any machine: the model of benchmarks/floors.py, nothing measured)

Interleaved in one run, fresh inputs with a video's locality and another order in each round, medians. `ideal` is the
time over density x the dense time of the same kernel: 1 is what was paid for a tile when all run. Lists are chosen
beforehand where they are not said to be `chosen in the call`, as comfy-kitchen's are. Error: relative L2 against dense
attention in float64, on some queries of the first head.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import date
from functools import cache, partial
from math import ceil
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.benchmark import Timer

from attention import registry, sparse
from attention.call import describe
from attention.patterns import TopBlocks
from attention.patterns.blocks import arrange, select
from attention.reference import relative_l2, scaled_dot_product_attention
from attention.tokens import BOTH, Place
from attention.triton import launch, lists

from .attention import machine
from .floors import GPUS, floor, tops
from .inputs import draw
from .shapes import Shape

# LTX 768x512x121, LTX 1216x704x121, LTX 1920x1088x121, Wan 1280x720x81, HunyuanVideo-1.5 1280x720x121.
GRIDS = {6144: (16, 16, 24), 13376: (16, 22, 38), 32640: (16, 34, 60), 75600: (21, 45, 80), 111600: (31, 45, 80)}
DENSITIES = (50, 25, 15, 10)
OURS = {"video attention int8": True, "video attention 16 bit": False}
NOT_MEASURED = "Not measured on a GPU."
DTYPE = torch.bfloat16
SAMPLE = 64


def main() -> int:
    options = arguments()
    if options.what == "floors":
        print(floors(options))
        return 0
    if not torch.cuda.is_available():
        print(f"{NOT_MEASURED} This needs CUDA; `python -m benchmarks.kernel floors` prints what could be reached.")
        return 1
    device = torch.device("cuda")
    rows = [row for d in options.head_dims for n in options.tokens for row in run(n, d, device, options)]
    results = {
        "date": date.today().isoformat(), "machine": machine(device), "torch": torch.__version__,
        "heads": options.heads, "dtype": str(DTYPE).removeprefix("torch."), "rounds": options.rounds, "rows": rows,
    }  # fmt: skip
    print(markdown(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


def arguments() -> argparse.Namespace:
    def numbers(text):
        return tuple(map(int, text.split(",")))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("kernels", "floors"), default="kernels")
    parser.add_argument("--tokens", type=numbers, default=tuple(GRIDS), help=f"of {', '.join(map(str, GRIDS))}")
    parser.add_argument("--head-dims", type=numbers, default=(64, 128))
    parser.add_argument("--densities", type=numbers, default=DENSITIES, help="percent of the tiles")
    parser.add_argument("--heads", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if set(options.tokens) - set(GRIDS):
        parser.error(f"--tokens: of {', '.join(map(str, GRIDS))}")
    return options


def run(tokens: int, head_dim: int, device, options) -> list[dict]:
    """Rows {tokens, head_dim, kernel, density, ms, tops, error, ideal}, dense kernels first; a failure has `failed`."""
    shape = Shape("kernel", GRIDS[tokens], options.heads, head_dim)
    times, errors, failed = {}, {}, {}
    with Progress(console=Console(stderr=True)) as bar:
        for turn in bar.track(range(options.rounds), description=f"{tokens} x {head_dim}"):
            q, k, v = draw(shape, device, DTYPE)
            kernels = candidates(shape, q, k, v, options.densities)
            for name in list(kernels)[:: -1 if turn % 2 else 1]:
                if name in failed:
                    continue
                try:
                    errors.setdefault(name, error(kernels[name], q, k, v))  # compiles, too
                    values = {"run": kernels[name], "q": q, "k": k, "v": v}
                    times.setdefault(name, []).append(Timer("run(q, k, v)", globals=values).timeit(1).median)
                except Exception as problem:  # a kernel that fails is a row of the table, not the end of the run
                    failed[name] = f"{type(problem).__name__}: {problem}".splitlines()[0]
    medians = {name: statistics.median(each) * 1e3 for name, each in times.items() if name not in failed}
    rows = [row_of(shape, name, ms, errors[name], medians) for name, ms in medians.items()]
    base = {"tokens": tokens, "head_dim": head_dim}
    return rows + [{**base, "kernel": k, "density": d, "failed": why} for (k, d), why in failed.items()]


def candidates(shape: Shape, q, k, v, densities) -> dict:
    """(name, percent of the tiles) -> function of q, k, v."""
    call, place = describe(q, k, v), Place(shape.grid, 0, BOTH)
    fast = [name for name in registry.names() if name not in ("sdpa math", "reference", "flex")]
    found = {(name, 100): registry.load(name) for name in fast if registry.why_not(name, call) is None}
    for percent in densities:
        for what, means in (("lists", False), ("lists and means", True)):
            blocks = chosen(shape, q, k, percent, means)
            for name, quantised in OURS.items():
                ours = partial(by_lists, shape=shape, percent=percent, means=means, quantised=quantised)
                found[f"{name}, {what}", percent] = partial(ours, blocks=blocks)
                found[f"{name}, {what} chosen in the call", percent] = ours
        other = sparse.prepare(TopBlocks(keep=percent), place, call, engine="comfy-kitchen sol_attn")
        if not isinstance(other, str):
            found["comfy-kitchen sol_attn", percent] = other
    return found


def chosen(shape: Shape, q, k, percent: int, means: bool) -> lists.Lists:
    """Lists of the best `percent` of blocks of tokens in the pattern's order."""
    pattern, to = TopBlocks(keep=percent), turned(shape, percent, q.device)[0]
    return lists.of_blocks(select(pattern, q[:, :, to], k[:, :, to]), shape.tokens, pooled=means)


@cache
def turned(shape: Shape, percent: int, device):
    """The pattern's order of tokens, and back."""
    return tuple(index.to(device) for index in arrange(TopBlocks(keep=percent), shape.grid))


def by_lists(q, k, v, *, shape: Shape, percent: int, means: bool, quantised: bool, blocks=None):
    to, back = turned(shape, percent, q.device)
    blocks = chosen(shape, q, k, percent, means) if blocks is None else blocks
    q, k, v = (t.index_select(2, to) for t in (q, k, v))
    return launch.attention(q, k, v, quantised=quantised, blocks=blocks).index_select(2, back)


def error(kernel, q, k, v) -> float:
    rows = torch.linspace(0, q.shape[2] - 1, SAMPLE, device=q.device).long()
    out = kernel(q, k, v)[:, :1, rows]
    return relative_l2(out, scaled_dot_product_attention(q[:, :1, rows].double(), k[:, :1].double(), v[:, :1].double()))


def row_of(shape: Shape, name: tuple[str, int], ms: float, wrong: float, medians: dict) -> dict:
    kernel, percent = name
    dense = medians.get((kernel.split(",")[0], 100))
    tiles = ceil(shape.tokens * percent / 100) / shape.tokens
    return {
        "tokens": shape.tokens, "head_dim": shape.head_dim, "kernel": kernel, "density": percent, "ms": ms,
        "tops": tops(shape.heads, shape.tokens, shape.tokens, shape.head_dim, ms, tiles), "error": wrong,
        "ideal": ms / dense / tiles if dense and percent < 100 else None,
    }  # fmt: skip


def markdown(results: dict) -> str:
    lines = [
        f"{results['machine']}, torch {results['torch']}, {results['dtype']}, {results['heads']} heads, "
        f"{results['date']}, medians of {results['rounds']}.", "",
        "| tokens | head size | kernel | tiles, % | ms | TOPS | ideal | relative L2 |", "|" + " --- |" * 8,
    ]  # fmt: skip
    for row in results["rows"]:
        start = f"| {row['tokens']} | {row['head_dim']} | {row['kernel']} | {row['density']} "
        if "failed" in row:
            lines.append(f"{start}| {row['failed']} | - | - | - |")
            continue
        ideal = f"{row['ideal']:.2f}" if row["ideal"] else "-"
        lines.append(f"{start}| {row['ms']:.3f} | {row['tops']:.0f} | {ideal} | {row['error']:.1e} |")
    return "\n".join(lines)


def floors(options) -> str:
    """What no implementation of our kernel can go below, for each GPU."""
    lines = [
        f"{NOT_MEASURED} The model of benchmarks/floors.py: dense, {options.heads} heads.", "",
        "| GPU | tokens | head size | scores | floor, ms | TOPS at most | bound by |", "|" + " --- |" * 7,
    ]  # fmt: skip
    for name, gpu in GPUS.items():
        for dim in options.head_dims:
            for tokens in options.tokens:
                for kind, quantised in (("int8", True), ("16 bit", False)):
                    least = floor(gpu, options.heads, tokens, tokens, dim, quantised=quantised)
                    most = tops(options.heads, tokens, tokens, dim, least.ms)
                    lines.append(
                        f"| {name} | {tokens} | {dim} | {kind} | {least.ms:.2f} | {most:.0f} | {least.bound} |"
                    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
