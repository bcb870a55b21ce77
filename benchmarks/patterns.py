"""Every attention pattern on every engine that accepts it, beside dense attention.

    python -m benchmarks.patterns [--device cuda|cpu] [--grid T,Y,X] [--text S] [--heads H] [--head-dim D]
                                  [--rounds R] [--threads N] [--clock wall|cpu] [--compile-on-cpu]
                                  [--only TEXT] [--out FILE.md|FILE.json]

Interleaved in one run, fresh inputs for each round, medians. `of ideal` is what was paid for a FLOP, dense attention
being 1: (time / dense time) / (FLOPs / dense FLOPs). Error against float64 with the pattern's mask, on some queries.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import date
from math import prod
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from torch.utils.benchmark import Timer
from torch.utils.benchmark import timer as default_timer

from attention import patterns
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.core.torch_sdpa import sdpa
from attention.patterns import blocks
from attention.patterns.spec import parts_of, relation_of
from attention.sparse import engine_registry

from .attention import machine
from .inputs import draw
from .shapes import Shape

# Wan's 21 latent frames of a small picture on a CPU; LTX 1080p on a GPU.
GRIDS = {"cpu": (21, 16, 24), "cuda": (16, 34, 60)}
HEADS = {"cpu": 4, "cuda": 32}
SAMPLE = 64
CLOCKS = {"wall": default_timer, "cpu": time.process_time}
PATTERNS = {
    "spatial": patterns.Spatial(),
    "temporal": patterns.Temporal(),
    "spatial and temporal, averaged": patterns.Factorised(weight=0.5),
    "temporal window, 5 frames": patterns.TemporalWindow(frames=5),
    "sliding tile, 12 frames, 50 %": patterns.SlidingTile(),
    "neighbourhood, 9 frames, 50 %": patterns.Neighbourhood(),
    "radial, keep 40 %": patterns.Radial(keep=40),
    "top blocks, 20 %": patterns.TopBlocks(),
    "blocks by mass, 50 %": patterns.MassBlocks(mass=50),
    "spatial or temporal": patterns.Union((patterns.Spatial(), patterns.Temporal())),
    "radial and neighbourhood": patterns.Intersection((patterns.Radial(), patterns.Neighbourhood())),
}


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    shape = Shape("patterns", options.grid, options.heads, options.head_dim, options.text)
    rows, refused = run(shape, device, dtype, options)
    results = {
        "date": date.today().isoformat(), "machine": machine(device), "torch": torch.__version__,
        "dtype": str(dtype).removeprefix("torch."), "grid": shape.grid, "text": shape.text, "heads": shape.heads,
        "head_dim": shape.head_dim, "clock": options.clock, "rows": rows, "refused": refused,
    }  # fmt: skip
    text = markdown(results)
    print(text)
    if options.out:
        Path(options.out).write_text(json.dumps(results, indent=1) if options.out.endswith("json") else text + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", type=lambda text: tuple(map(int, text.split(","))), metavar="T,Y,X")
    parser.add_argument("--text", type=int, default=0, help="tokens in front of the video that everything attends to")
    parser.add_argument("--heads", type=int)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for a busy machine")
    parser.add_argument("--compile-on-cpu", action="store_true", help="let FlexAttention compile for the CPU")
    parser.add_argument("--only", default="", help="patterns whose name contains this")
    parser.add_argument("--out", metavar="FILE", help=".json, else Markdown")
    options = parser.parse_args()
    options.grid = options.grid or GRIDS[options.device]
    options.heads = options.heads or HEADS[options.device]
    if len(options.grid) != 3 or min(options.grid) < 1:
        parser.error("--grid: three positive numbers, T,Y,X")
    return options


def run(shape: Shape, device, dtype, options) -> tuple[list[dict], dict]:
    """Measure every pattern on every engine: rows for the table, dense first, and (pattern, engine) -> reason."""
    video_span = VideoSpan(shape.grid, shape.text, BOTH, (Span("text", shape.text),))
    q, k, v = draw(shape, device, dtype)
    runners, refused, planning = {}, {}, {}
    for title, pattern in PATTERNS.items():
        for engine in engine_registry.names() if options.only in title else ():
            begin = time.perf_counter()
            geometry = describe(q, k, v)
            able = engine_registry.runners(
                pattern, video_span, geometry, engine=engine, compile_on_cpu=options.compile_on_cpu
            )
            if isinstance(able, Reason):
                refused[f"{title}, {engine}"] = able
                continue
            found = able[0]
            out = found(q, k, v)
            planning[title, engine] = time.perf_counter() - begin
            runners[title, engine] = found, error(PATTERNS[title], video_span, q, k, v, out)
    times = measure({name: found for name, (found, _) in runners.items()}, shape, device, dtype, options)
    dense = times.pop("dense")
    rows = [{"pattern": "dense", "engine": "sdpa", "ms": dense * 1e3}]
    for (title, engine), seconds in times.items():
        found, wrong = runners[title, engine]
        row = {"pattern": title, "engine": engine, "ms": seconds * 1e3, "time": seconds / dense, "error": wrong}
        flops = found.flop_ratio
        row |= {"flops": flops, "of_ideal": flops and seconds / dense / flops, "first": planning[title, engine]}
        rows.append(row)
    return rows, refused


def measure(runners: dict, shape: Shape, device, dtype, options) -> dict:
    """Measure the median seconds of each runner and of dense attention."""
    timed = {"dense": sdpa, **runners}
    times = {name: [] for name in timed}
    with Progress(console=Console(stderr=True)) as bar:
        for _ in bar.track(range(options.rounds)):
            q, k, v = draw(shape, device, dtype)
            for name, one in timed.items():
                values = {"run": one, "q": q, "k": k, "v": v}
                clock, threads = CLOCKS[options.clock], torch.get_num_threads()
                timer = Timer("run(q, k, v)", globals=values, timer=clock, num_threads=threads)
                times[name].append(timer.timeit(1).median)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def error(pattern, video_span: VideoSpan, q, k, v, out) -> float:
    """Relative L2 error of the first head on some of the video's queries."""
    start, stop, tokens = video_span.start, video_span.stop, prod(video_span.grid)
    rows = torch.linspace(0, tokens - 1, SAMPLE, device=q.device).long()
    wide = [t[:1, :1].double() for t in (q[:, :, rows + start], k, v)]
    truth = 0.0
    for weight, part in parts_of(pattern):
        relation = relation_of(part, video_span.grid)
        if relation is None:
            video = (t[:1, :1, start:stop] for t in (q, k))
            seen = blocks.mask(part, *video, video_span.grid)[:, :, rows]
        else:
            seen = relation.mask_mod(0, 0, rows[:, None], torch.arange(tokens, device=q.device)[None, :])[None, None]
        mask = F.pad(seen, (start, k.shape[2] - stop), value=True)
        truth = truth + weight * scaled_dot_product_attention(*wide, mask)
    return relative_l2(out[:1, :1, rows + start], truth)


def markdown(results: dict) -> str:
    grid = " x ".join(map(str, results["grid"]))
    lines = [
        f"{results['machine']}, torch {results['torch']}, {results['dtype']}, {results['date']}; {grid} tokens and "
        f"{results['text']} of text, {results['heads']} heads of {results['head_dim']}. Dense attention takes "
        f"{results['rows'][0]['ms']:.1f} ms ({results['clock']} clock).", "",
        "| pattern | engine | ms | time / dense | FLOPs / dense | of ideal | relative L2 | first call, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for row in results["rows"][1:]:
        flops = f"{row['flops']:.2%} | {row['of_ideal']:.2f}" if row["flops"] else "- | -"
        lines.append(
            f"| {row['pattern']} | {row['engine']} | {row['ms']:.1f} | {row['time']:.2%} | {flops} "
            f"| {row['error']:.1e} | {row['first']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
