"""Our Triton kernel beside the others: dense, and by lists of key blocks at several densities. Needs a CUDA GPU.

    python -m benchmarks.kernel [--tokens N,...] [--head-dims D,...] [--densities P,...] [--heads H] [--rounds R]
                                [--json FILE]
    python -m benchmarks.kernel plan          (any machine: what would be measured, and what cannot run here)
    python -m benchmarks.kernel floors        (any machine: the model of benchmarks/floors.py, nothing measured)

Interleaved in one run, fresh inputs with a video's locality and another order in each round, medians. `ideal` is the
time over density x the dense time of the same kernel: 1 is what was paid for a tile when all run. Lists are chosen
beforehand where they are not said to be `chosen in the call`, as comfy-kitchen's are. Error: relative L2 against dense
attention in float64, on some queries of the first head. MiB: the most memory that a call takes besides q, k and v.
Clocks, power and temperature are noted as found before and after each size; nothing sets them.
Without a GPU: prints what would be measured, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from datetime import date
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from math import ceil
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.benchmark import Timer

from attention.backends import registry
from attention.backends.triton import block_lists
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, VideoSpan
from attention.patterns import TopBlocks
from attention.patterns.blocks import block_order, select_blocks
from attention.sparse import engine_registry, kitchen
from attention.sparse import own_triton as engine

from . import clocks
from .attention import machine
from .floors import GPUS, floor, ships, tops
from .inputs import draw
from .shapes import Shape

# LTX 768x512x121, LTX 1216x704x121, LTX 1920x1088x121, Wan 1280x720x81, HunyuanVideo-1.5 1280x720x121.
GRIDS = {6144: (16, 16, 24), 13376: (16, 22, 38), 32640: (16, 34, 60), 75600: (21, 45, 80), 111600: (31, 45, 80)}
DENSITIES = (50, 25, 15, 10)
OURS = {
    "video attention int8": {"quantized": True},
    "video attention 16 bit": {"quantized": False},
    "video attention float8": {"quantized": True, "float8": True},
}
NOT_MEASURED = "Not measured on a GPU."
DTYPE = torch.bfloat16
SAMPLE = 64


def main() -> int:
    options = arguments()
    if options.what in WITHOUT_GPU:
        print(WITHOUT_GPU[options.what](options))
        return 0
    if not torch.cuda.is_available():
        print(f"{plan(options)}\n\n{NOT_MEASURED} This needs CUDA.")
        return 1
    device = torch.device("cuda")
    rows, found = [], []
    for head_dim, tokens in product(options.head_dims, options.tokens):
        before = clocks.now(device)
        rows += run(tokens, head_dim, device, options)
        found.append({"tokens": tokens, "head_dim": head_dim, "before": before, "after": clocks.now(device)})
    results = {
        "date": date.today().isoformat(), "machine": machine(device), **clocks.driver(device), "versions": versions(),
        "heads": options.heads, "dtype": str(DTYPE).removeprefix("torch."), "rounds": options.rounds, "clocks": found,
        "rows": rows,
    }  # fmt: skip
    print(markdown(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    return 0


def arguments() -> argparse.Namespace:
    def numbers(text):
        return tuple(map(int, text.split(",")))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=tuple(WITHOUT_GPU) + ("kernels",), default="kernels")
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
    """Measure one size: rows {tokens, head_dim, kernel, density, ms, tops, error, ideal}, a failure has `failed`."""
    shape = Shape("kernel", GRIDS[tokens], options.heads, head_dim)
    times, errors, peaks, failed = {}, {}, {}, {}
    with Progress(console=Console(stderr=True)) as bar:
        for turn in bar.track(range(options.rounds), description=f"{tokens} x {head_dim}"):
            q, k, v = draw(shape, device, DTYPE)
            kernels = candidates(shape, q, k, v, options.densities)
            for name in list(kernels)[:: -1 if turn % 2 else 1]:
                if name in failed:
                    continue
                try:
                    errors.setdefault(name, error(kernels[name], q, k, v))  # compiles, too
                    peaks.setdefault(name, peak(kernels[name], q, k, v))
                    values = {"run": kernels[name], "q": q, "k": k, "v": v}
                    times.setdefault(name, []).append(Timer("run(q, k, v)", globals=values).timeit(1).median)
                except Exception as problem:  # a kernel that fails is a row of the table, not the end of the run
                    failed[name] = f"{type(problem).__name__}: {problem}".splitlines()[0]
    medians = {name: statistics.median(each) * 1e3 for name, each in times.items() if name not in failed}
    rows = [{**row_of(shape, name, ms, errors[name], medians), "mib": peaks[name]} for name, ms in medians.items()]
    base = {"tokens": tokens, "head_dim": head_dim}
    return rows + [{**base, "kernel": k, "density": d, "failed": why} for (k, d), why in failed.items()]


def candidates(shape: Shape, q, k, v, densities) -> dict:
    """Collect (name, percent of the tiles) -> function of q, k, v."""
    geometry, video_span = describe(q, k, v), VideoSpan(shape.grid, 0, BOTH)
    found = {(name, 100): registry.load(name) for name in rivals() if registry.why_not(name, geometry) is None}
    for percent in densities:
        for what, means in (("lists", False), ("lists and means", True)):
            blocks = lists_of_best(shape, q, k, percent, means)
            for name, how in OURS.items():
                if registry.why_not(name, geometry) is not None:
                    continue
                ours = partial(by_lists, shape=shape, percent=percent, means=means, **how)
                found[f"{name}, {what}", percent] = partial(ours, blocks=blocks)
                found[f"{name}, {what} chosen in the call", percent] = ours
        other = engine_registry.runners(TopBlocks(keep=percent), video_span, geometry, engine="comfy-kitchen sol_attn")
        if not isinstance(other, Reason):
            found["comfy-kitchen sol_attn", percent] = other[0]
    return found


def rivals() -> list[str]:
    """List the dense kernels that are worth the time."""
    return [name for name in registry.names() if name not in ("sdpa math", "reference", "flex")]


def lists_of_best(shape: Shape, q, k, percent: int, means: bool) -> block_lists.BlockLists:
    """Make the lists of the best `percent` of blocks of tokens in the pattern's order. means: as of of_blocks."""
    pattern, to = TopBlocks(keep=percent), block_order_of(shape, percent, q.device)[0]
    return block_lists.of_blocks(select_blocks(pattern, q[:, :, to], k[:, :, to]), shape.tokens, means=means)


@cache
def block_order_of(shape: Shape, percent: int, device):
    """Give the pattern's order of tokens, and back, both (N,) on the device."""
    return tuple(index.to(device) for index in block_order(TopBlocks(keep=percent), shape.grid))


def by_lists(q, k, v, *, shape: Shape, percent: int, means: bool, blocks=None, **how):
    """Attend as the engine for patterns does. blocks: selected beforehand, in its order; None: in the call."""
    to, back = block_order_of(shape, percent, q.device)
    plan = engine.EnginePlan(TopBlocks(keep=percent, tail=means), to, back, blocks)
    return engine.run((q, k, v), (k[:, :, :0], v[:, :, :0]), None, plan, **how)


def error(kernel, q, k, v) -> float:
    """Measure relative L2 against dense attention in float64, on SAMPLE queries of the first head."""
    rows = torch.linspace(0, q.shape[2] - 1, SAMPLE, device=q.device).long()
    out = kernel(q, k, v)[:, :1, rows]
    return relative_l2(out, scaled_dot_product_attention(q[:, :1, rows].double(), k[:, :1].double(), v[:, :1].double()))


def peak(kernel, q, k, v) -> float | None:
    """Measure the MiB that a call takes at most, its output among them; None where nobody counts."""
    if q.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(q.device)
    before = torch.cuda.memory_allocated(q.device)
    kernel(q, k, v)
    return (torch.cuda.max_memory_allocated(q.device) - before) / 2**20


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
    driver = results["driver"] or f"not known ({results['driver_reason']})"
    lines = [
        f"{results['machine']}, driver {driver}, CUDA {results['cuda']}, "
        f"{', '.join(' '.join(pair) for pair in results['versions'].items())}, "
        f"{results['dtype']}, {results['heads']} heads, {results['date']}, medians of {results['rounds']}.", "",
        "| tokens | head size | kernel | tiles, % | ms | TOPS | ideal | relative L2 | MiB |", "|" + " --- |" * 9,
    ]  # fmt: skip
    for row in results["rows"]:
        start = f"| {row['tokens']} | {row['head_dim']} | {row['kernel']} | {row['density']} "
        if "failed" in row:
            lines.append(f"{start}| {row['failed']} | - | - | - | - |")
            continue
        ideal = f"{row['ideal']:.2f}" if row["ideal"] else "-"
        mib = "-" if row["mib"] is None else f"{row['mib']:.0f}"
        lines.append(f"{start}| {row['ms']:.3f} | {row['tops']:.0f} | {ideal} | {row['error']:.1e} | {mib} |")
    return "\n".join([*lines, "", *goals(results["rows"]), "", *clocks.table(results["clocks"])])


def goals(rows: list[dict]) -> list[str]:
    """Say for each goal that the rows can tell about what was asked, and what came out."""
    done = [row for row in rows if "failed" not in row]
    said = []
    for dim, least in ((128, 650), (64, 500)):
        found = [r for r in done if (r["kernel"], r["head_dim"]) == ("video attention int8", dim)]
        if found:
            reached = max(found, key=lambda row: row["tokens"])["tops"]
            said.append(f"- dense int8, head size {dim}: {reached:.0f} TOPS, asked on H200: {least} at least")
    at_15 = [r for r in done if r["density"] == 15]
    ideal = [r["ideal"] for r in at_15 if r["kernel"] == "video attention int8, lists" and r["ideal"]]
    if ideal:
        said.append(f"- 15 % of the tiles: {max(ideal):.2f} x their share of dense time, asked: 1.25 at most")
    for sol in (r for r in done if r["kernel"] == "comfy-kitchen sol_attn"):
        same = [
            r["ms"] for r in done
            if "chosen in the call" in r["kernel"] and r["error"] <= sol["error"]
            and (r["tokens"], r["head_dim"]) == (sol["tokens"], sol["head_dim"])
        ]  # fmt: skip
        if same:
            where = f"{sol['tokens']} tokens, head size {sol['head_dim']}, error {sol['error']:.2g} of sol_attn"
            said.append(f"- {where}: {min(same) / sol['ms']:.2f} x its time, asked: 0.8 at most")
    return said


def versions() -> dict[str, str]:
    """List what is installed of torch and the kernels: {name: version}."""
    found = {}
    for name in ("torch", "triton", "comfy-kitchen", "sageattention", "flash-attn", "xformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def plan(options) -> str:
    """Say what would be measured, and what cannot run here and why."""
    sizes = ", ".join(f"{n} ({' x '.join(map(str, GRIDS[n]))})" for n in options.tokens)
    how = "lists, lists and means, each with blocks chosen before and in the call"
    densities = ", ".join(map(str, options.densities))
    lines = [
        f"tokens: {sizes}", f"head sizes: {', '.join(map(str, options.head_dims))}; heads: {options.heads}",
        f"rounds: {options.rounds}; dtype: {str(DTYPE).removeprefix('torch.')}",
        f"dense: {', '.join(rivals())}",
        f"{densities} % of the tiles: {', '.join(OURS)} ({how}), comfy-kitchen sol_attn", "", "Not here:",
    ]  # fmt: skip
    reasons = {name: registry.why_not(name) for name in rivals()} | {"comfy-kitchen sol_attn": missing()}
    return "\n".join([*lines, *(f"- {name}: {reason}" for name, reason in reasons.items() if reason)])


def missing() -> str | None:
    """Say why comfy-kitchen's sol_attn cannot run here; None: it can."""
    found = kitchen.load("sol_attn")
    return found if isinstance(found, Reason) else None


def floors(options) -> str:
    """Say what no implementation of our kernel can go below, for each GPU."""
    lines = [
        f"{NOT_MEASURED} The model of benchmarks/floors.py: dense, {options.heads} heads.", "",
        "| GPU | tokens | head size | kernel | floor, ms | TOPS at most | bound by |", "|" + " --- |" * 7,
    ]  # fmt: skip
    for name, gpu in GPUS.items():
        for dim, tokens, (kernel, how) in product(options.head_dims, options.tokens, OURS.items()):
            if not ships(gpu, dim, **how):
                continue
            least = floor(gpu, options.heads, tokens, tokens, dim, **how)
            most, kind = tops(options.heads, tokens, tokens, dim, least.ms), kernel.removeprefix("video attention ")
            lines.append(f"| {name} | {tokens} | {dim} | {kind} | {least.ms:.2f} | {most:.0f} | {least.bound} |")
    return "\n".join(lines)


WITHOUT_GPU = {"plan": plan, "floors": floors}

if __name__ == "__main__":
    sys.exit(main())
