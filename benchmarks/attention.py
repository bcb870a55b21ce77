"""Every dense attention kernel side by side on the shapes of real video models.

    python -m benchmarks.attention [--device cuda|cpu] [--shapes ltx-1080p,wan-720p,...] [--json FILE]
    python -m benchmarks.attention dispatch

Interleaved in one run, fresh inputs and another order in each round, medians, error against float64 on a sample of
queries. Each of ComfyUI's own functions also runs below `auto`, and the median of their ratio round by round is shown:
below 1 `auto` would be a loss.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
from collections.abc import Callable
from datetime import date

import torch
from rich.console import Console
from rich.progress import Progress
from torch.utils.benchmark import Timer

from attention.backends import registry
from attention.core.geometry import describe
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

from . import dispatch, host_paths
from .inputs import draw
from .shapes import SHAPES, Shape

CPU_TOKENS = 2048
SAMPLE = 64
console = Console(stderr=True)


def main() -> None:
    options = arguments()
    if options.what == "dispatch":
        print(dispatch.table(dispatch.measure()))
        return
    device = torch.device(options.device)
    shapes = [SHAPES[name] for name in options.shapes.split(",")]
    scaled = device.type == "cpu"
    if scaled:
        shapes = [shape.scaled(CPU_TOKENS) for shape in shapes]
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    results = {
        "date": date.today().isoformat(), "machine": machine(device), "torch": torch.__version__,
        "dtype": str(dtype).removeprefix("torch."), "matmul_tflops": ceiling(device, dtype), "scaled": scaled,
        "shapes": run_all(shapes, device, dtype, options.rounds),
    }  # fmt: skip
    print(markdown(results))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("kernels", "dispatch"), default="kernels")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shapes", default=",".join(SHAPES), help=f"comma-separated, of {', '.join(SHAPES)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    unknown = set(options.shapes.split(",")) - set(SHAPES)
    if unknown:
        parser.error(f"--shapes: {', '.join(sorted(unknown))} is not known; known are {', '.join(SHAPES)}")
    return options


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {torch.get_num_threads()} threads"


def _cpuinfo() -> list[str]:
    try:
        with open("/proc/cpuinfo") as file:
            return file.readlines()
    except OSError:
        return []


def ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product: what any kernel of this dtype could reach."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = Timer("a @ b", globals={"a": a, "b": b}, num_threads=torch.get_num_threads()).blocked_autorange().median
    return 2 * size**3 / seconds / 1e12


def run_all(shapes: list[Shape], device, dtype, rounds: int) -> list[dict]:
    host = host_paths.find(cpu=device.type == "cpu")
    with Progress(console=console) as bar:
        task = bar.add_task("attention", total=len(shapes) * rounds)
        return [run_shape(shape, device, dtype, rounds, host, lambda: bar.advance(task)) for shape in shapes]


def run_shape(shape: Shape, device, dtype, rounds: int, host: dict, advance) -> dict:
    """{name, grid, tokens, heads, head_dim, rows: [{kernel, ms, tflops, error, peak_mib}], refused: {kernel: reason},
    auto: [{host, took, ratio}]} of one shape."""
    q, k, v = draw(shape, device, dtype)
    kernels, refused = _kernels(q, k, v)
    counted = {name: RunStats() for name in host}
    for name, function in host.items():
        pair = {name: direct(function), _auto(name): routed(function, counted[name])}
        kernels = {**pair, **kernels}
    times, checks = {name: [] for name in kernels}, {}
    for index in range(rounds):
        if index:
            q, k, v = draw(shape, device, dtype)
        for name in _turned(list(kernels), index):
            try:
                if name not in checks:
                    checks[name] = _check(kernels[name], q, k, v)
                times[name].append(_seconds(kernels[name], q, k, v))
            except Exception as error:  # a kernel that fails is a row of the table, not the end of the run
                refused[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                del kernels[name]
        advance()
    rows = sorted((_row(shape, name, times[name], *checks[name]) for name in kernels), key=lambda row: row["ms"])
    return {"name": shape.name, "grid": shape.grid, "tokens": shape.tokens, "heads": shape.heads,
            "head_dim": shape.head_dim, "rows": rows, "refused": refused,
            "auto": [_ratio(name, counted[name], times) for name in host if {name, _auto(name)} <= set(kernels)],
            }  # fmt: skip


def direct(function: Callable) -> Callable:
    """A host's function as attention(q, k, v) over (B, H, L, D)."""
    return lambda q, k, v: function(q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True)


def routed(function: Callable, stats: RunStats) -> Callable:
    """The same below a Router on `auto`, as Video Attention Backend sets it up; counted in `stats`."""
    router, options = Router((Rule(),)), {CONTEXT: stats.context}
    return lambda q, k, v: router(function, q, k, v, q.shape[1], None, None, True, True, transformer_options=options)


def _auto(host_name: str) -> str:
    return f"auto on {host_name}"


def _turned(names: list[str], index: int) -> list[str]:
    # Who comes first finds the inputs cold, and neighbours are what the ratios compare.
    return names[::-1] if index % 2 else names


def _seconds(kernel, q, k, v) -> float:
    arguments = {"run": kernel, "q": q, "k": k, "v": v}
    return Timer("run(q, k, v)", globals=arguments, num_threads=torch.get_num_threads()).timeit(1).median


def _ratio(host_name: str, stats: RunStats, times: dict[str, list[float]]) -> dict:
    """{host, took, ratio}: how many times as fast `auto` was, and what it took."""
    pairs = zip(times[host_name], times[_auto(host_name)])
    (decision,) = stats.decisions.values()
    return {"host": host_name, "took": decision.used, "ratio": statistics.median(own / ours for own, ours in pairs)}


def _kernels(q, k, v) -> tuple[dict, dict]:
    geometry, kernels, refused = describe(q, k, v), {}, {}
    for name in registry.names():
        reason = registry.why_not(name, geometry)
        if reason is None:
            kernels[name] = registry.load(name)
        else:
            refused[name] = reason
    return kernels, refused


def _check(kernel, q, k, v) -> tuple[float, float]:
    """Relative L2 error on a sample of queries of the first head, and peak memory of one call in MiB (CUDA alone)."""
    cuda = q.device.type == "cuda"
    gc.collect()
    before = torch.cuda.memory_allocated(q.device) if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats(q.device)
    out = kernel(q, k, v)
    peak = (torch.cuda.max_memory_allocated(q.device) - before) / 2**20 if cuda else 0.0
    rows = torch.linspace(0, q.shape[2] - 1, SAMPLE, device=q.device).long()
    truth = scaled_dot_product_attention(q[:, :1, rows].double(), k[:, :1].double(), v[:, :1].double())
    return relative_l2(out[:, :1, rows], truth), peak


def _row(shape: Shape, name: str, times: list[float], error: float, peak: float) -> dict:
    seconds = statistics.median(times)
    return {
        "kernel": name,
        "ms": seconds * 1e3,
        "tflops": shape.flop / seconds / 1e12,
        "error": error,
        "peak_mib": peak,
    }


def markdown(results: dict) -> str:
    ceil = results["matmul_tflops"]
    lines = [
        f"{results['machine']}, torch {results['torch']}, {results['dtype']}, {results['date']}; "
        f"a large matrix product reaches {ceil:.3g} TFLOP/s.",
        f"Scaled down for a CPU: at most {CPU_TOKENS} tokens and 4 heads." * results["scaled"],
    ]
    for shape in results["shapes"]:
        grid = " x ".join(map(str, shape["grid"]))
        what = f"{grid}: {shape['tokens']} tokens, {shape['heads']} heads of {shape['head_dim']}"
        lines += ["", f"**{shape['name']}**, {what}", ""]
        lines += [
            "| kernel | ms | TFLOP/s | of matmul | relative L2 | peak MiB |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for row in shape["rows"]:
            speed = f"{row['ms']:.3f} | {row['tflops']:.3g} | {row['tflops'] / ceil:.0%}"
            lines.append(f"| {row['kernel']} | {speed} | {row['error']:.1e} | {row['peak_mib']:.0f} |")
        for auto in shape["auto"]:
            lines += ["", f"`auto` on {auto['host']}: {auto['ratio']:.2f} times as fast, took {auto['took']}."]
    refused = {(name, why): None for shape in results["shapes"] for name, why in shape["refused"].items()}
    return "\n".join([*lines, "", "Not run:", "", *(f"- {name}: {why}" for name, why in refused)])


if __name__ == "__main__":
    main()
