"""Starts our Triton kernel as on a GPU, up to the launch: what `attention` passes is specialised and compiled.

    python triton_launches.py MAJOR.MINOR MARK          (or AMD's name of an architecture)

Writes a JSON list of calls to stdout, each the list of its launches: kernel, programs, and how often MARK stands in its
PTX, or AMD's assembly. A process of its own, since Triton's driver is one for the process. Nothing runs: the outputs
are never written.
"""

from __future__ import annotations

import json
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from attention.backends.triton import block_lists, device, launch, quantize
from attention.patterns import TopBlocks
from attention.sparse import own_triton as engine

NAME, MARK = sys.argv[1:]
GPU = NAME if NAME.startswith("gfx") else tuple(map(int, NAME.split(".")))


class Driver:
    """A GPU that compiles and never runs."""

    def get_current_target(self):
        return GPUTarget("hip", GPU, 64) if GPU == NAME else GPUTarget("cuda", GPU[0] * 10 + GPU[1], 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, index):
        return 0


class Kernel:
    """A Triton function whose launches are compiled and noted."""

    def __init__(self, function, launches):
        self.function, self.launches = function, launches

    def __getitem__(self, grid):
        def compile_alone(*arguments, **options):
            made = self.function.warmup(*arguments, grid=grid, **options)
            text = made.asm["amdgcn" if GPU == NAME else "ptx"]
            self.launches.append((self.function.__name__, grid[0], text.count(MARK)))

        return compile_alone


def calls():
    """q, k, v, mask, blocks, and whether scores are INT8 and values float8."""
    q = torch.randn(2, 200, 6 * 64).bfloat16().unflatten(-1, (6, 64)).transpose(1, 2)
    k, v = (torch.randn(2, 2, 333, 64).bfloat16() for _ in "kv")
    kept = torch.ones(2, 6, 2, 6, dtype=torch.bool).tril()
    means = block_lists.of_blocks(kept, 333, means=True)
    band = block_lists.of_mask(lambda i, j: (i - j).abs() < 90, 200, 333, q.device)
    yield q, k, v, None, None, True, False
    yield q, k, v, None, None, False, False
    yield q, k, v, torch.ones(2, 1, 1, 333, dtype=torch.bool), None, True, False
    yield q, k, v, None, means, True, False
    yield q.half(), k.half(), v.half(), None, band, False, False
    yield *(torch.randn(1, 1, 1, 96).half() for _ in "qkv"), None, None, True, False
    yield q, k, v, None, means, True, True


def in_order():
    """Calls of the engine for patterns: q, k, v of 200 tokens behind 70 others, and how."""
    plan = engine.EnginePlan(TopBlocks(keep=50, tail=True), torch.randperm(200).int(), torch.arange(200), None)
    for how in ({"quantized": True}, {"quantized": False}, {"quantized": True, "float8": True}):
        q, k, v, *front = (torch.randn(1, 2, n, 64).bfloat16() for n in (200, 200, 200, 70, 70))
        yield (q, k, v), front, None, plan, how


def main() -> None:
    driver.set_active(Driver())
    launches = []
    noted = {name: Kernel(function, launches) for name, function in device.compiled().items()}
    launch.compiled = quantize.compiled = lambda: noted
    launch.gpu_of = lambda device: GPU
    results = []
    for q, k, v, mask, blocks, quantized, float8 in calls():
        launch.attention(q, k, v, mask, quantized=quantized, float8=float8, blocks=blocks)
        results.append(launches.copy())
        launches.clear()
    for *call, how in in_order():
        engine.run(*call, **how)
        results.append(launches.copy())
        launches.clear()
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
