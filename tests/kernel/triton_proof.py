"""Video Attention Benchmark on our Triton kernel on the CPU: `TRITON_INTERPRET=1 python triton_proof.py`.

Writes to stdout as JSON which kernels it saw right, alone and by lists. A process of its own; see
triton_in_interpreter.py, whose rounding to float8 it takes. The kernels' rows are opened to the CPU; all others are
out, for speed.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch
from triton.runtime import interpreter
from triton_in_interpreter import round_to_float8

from attention.backends import TABLE, autotune, registry
from attention.core.geometry import describe
from attention.core.site import SITE, AttentionSite
from attention.core.tensor_layout import from_heads, to_heads
from attention.core.tokens import Tokens
from attention.plans import bench
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext

# This pack's own kernel: what waits for Video Attention Benchmark.
NAMES = tuple(row.name for row in TABLE if row.promise)
GRID, HEADS, DIM = (2, 10, 11), 2, 64


def host(q, k, v, heads, skip_reshape=False, skip_output_reshape=False, **kw):
    out = torch.nn.functional.scaled_dot_product_attention(*to_heads(q, k, v, heads, skip_reshape))
    return from_heads(out, skip_output_reshape)


def seen() -> dict:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 220, HEADS * DIM, dtype=torch.float16) for _ in "qkv")
    registry._SEEN.clear()
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(RunStats(), tokens=Tokens(GRID))}
    bench.Bench()(host, q, k, v, HEADS, transformer_options=options)
    call = describe(*to_heads(q, k, v, HEADS, False))
    return {name: [registry.seen_right(name, call, by_lists) for by_lists in (False, True)] for name in NAMES}


def open_to_cpu() -> None:
    for name in NAMES:
        row = registry.get(name)
        registry._BY_NAME[name] = replace(row, limits=replace(row.limits, devices=("cpu",)))
    registry.names = lambda: NAMES
    # Seconds of an interpreter say nothing.
    autotune.REPEATS = 1


if __name__ == "__main__":
    interpreter._convert_float = round_to_float8(interpreter._convert_float)
    open_to_cpu()
    right = seen()
    kernel, registry.names = registry.load(NAMES[0]), lambda: NAMES[:1]
    registry._LOADED[NAMES[0]] = lambda q, k, v, mask=None, scale=None: kernel(q, k, v, mask=mask, scale=0.3)
    print(json.dumps({"right": right, "spoilt": seen()[NAMES[0]]}))
