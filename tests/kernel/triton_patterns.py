"""Runs patterns on our Triton kernel on the CPU: `TRITON_INTERPRET=1 python triton_patterns.py`.

Writes one result for each case to stdout as JSON, and whether a second run gives the same. A process of its own; see
triton_in_interpreter.py.
"""

from __future__ import annotations

import json
import sys

import pattern_truth
import torch
from video_calls import LARGE, PATTERNS, draw, place_of

from attention import patterns as p
from attention import sparse
from attention.core import grid
from attention.core.reference import relative_l2
from attention.sparse import Runner, Task
from attention.sparse.own_triton import HALF, INT8

ENGINES = {"int8": INT8, "half": HALF}
# Ragged grids of several blocks, sinks that do and do not fill a block, one frame, one row.
GRIDS = (((5, 7, 9), 0, 0), ((3, 8, 10), 4, 0), ((2, 10, 10), 70, 5), ((1, 11, 13), 0, 3), ((4, 1, 37), 64, 0))
ORDER, TILE = "tile", (2, 3, 2)
TAILS = (
    (p.TopBlocks(20, tail=True), 9),
    (p.TopBlocks(15, order="raster", tail=True), 0),
    (p.MassBlocks(30, order="morton", tail=True), 70),
)


def runner(pattern, video_span, engine, order="raster", block=0):
    """As sparse.prepare makes it, for an engine that would refuse the CPU."""
    tasks = ((weight, Task(part, video_span, order, TILE)) for weight, part in p.parts(pattern, block))
    return Runner(video_span, tuple((weight, task, engine) for weight, task in tasks))


def result(name: str, run, tensors, wanted) -> dict:
    """Our kernel takes grouped heads: who repeats keys for it fails here."""
    before, expand = [t.clone() for t in tensors], sparse.expand_kv
    sparse.expand_kv = None
    out = run(*tensors)
    sparse.expand_kv = expand
    unchanged = all(map(torch.equal, before, tensors))
    return {"name": name, "error": relative_l2(out, wanted), "unchanged": unchanged}


def fixed_and_chosen():
    """Every pattern against the reference with its mask; the grids in turn, INT8 on every other pattern."""
    for index, pattern in enumerate(PATTERNS):
        video_span = place_of(*GRIDS[index % len(GRIDS)])
        tensors = draw(video_span, heads=2, kv_heads=1, dim=64, dtype=torch.float16, split=index % 2 > 0)
        block = index % 2
        wanted = pattern_truth.attention(pattern, video_span, *tensors, block=block)
        for variant, engine in list(ENGINES.items())[index % 2 :]:
            yield result(f"{variant}: {pattern}", runner(pattern, video_span, engine, block=block), tensors, wanted)


def other_orders():
    """Tokens that stand in another order already."""
    for pattern in (p.Radial(step=1), p.TopBlocks(keep=30)):
        video_span = place_of((4, 6, 7), 3)
        q, k, v = draw(video_span, dim=64, dtype=torch.float16)
        to = grid.order(video_span.grid, ORDER, TILE)[0] + video_span.start
        move = torch.cat([torch.arange(video_span.start), to])
        moved = [t[:, :, move] for t in (q, k, v)]
        wanted = pattern_truth.attention(pattern, video_span, q, k, v)[:, :, move]
        yield result(f"half: {pattern}, {ORDER}", runner(pattern, video_span, HALF, ORDER), moved, wanted)


def tails():
    """Blocks that are left out and count by their means: against the engine that any device has, in float64."""
    for (pattern, before), variant in zip(TAILS, ("int8", "half", "half")):
        video_span = place_of((3, 8, 17), before)
        tensors = draw(video_span, heads=4, kv_heads=2, dim=64, dtype=torch.float16)
        wanted = runner(pattern, video_span, sparse.gather_blocks.BLOCKS)(*(t.double() for t in tensors))
        yield result(f"{variant}: {pattern}", runner(pattern, video_span, ENGINES[variant]), tensors, wanted)


def large():
    """Thousands of tokens, where their order matters: in raster order nearly every tile would be seen."""
    video_span = place_of(LARGE, 5)
    tensors = draw(video_span, heads=1, kv_heads=1, dim=64, dtype=torch.float16)
    pattern = p.Temporal()
    wanted = pattern_truth.attention(pattern, video_span, *tensors)
    yield result("half: large", runner(pattern, video_span, HALF), tensors, wanted)


def again() -> bool:
    """Whether a pattern with a tail gives the same twice."""
    video_span = place_of((3, 8, 10), 4)
    run, tensors = runner(TAILS[0][0], video_span, INT8), draw(video_span, dim=64, dtype=torch.float16)
    return torch.equal(run(*tensors), run(*tensors))


if __name__ == "__main__":
    torch.set_num_threads(1)
    cases = [*fixed_and_chosen(), *other_orders(), *tails(), *large()]
    json.dump({"cases": cases, "again": again()}, sys.stdout)
