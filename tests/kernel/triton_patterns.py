"""Runs patterns on our Triton kernel on the CPU: `echo 0 | TRITON_INTERPRET=1 python triton_patterns.py`.

Reads a seed, which draws a pattern of every row of the table and a call for it. Writes one result for each case to
stdout as JSON, and whether a second run gives the same. A process of its own; see triton_in_interpreter.py.
"""

from __future__ import annotations

import json
import sys
from itertools import cycle
from random import Random

import pattern_rows
import pattern_truth
import torch
from triton.runtime import interpreter
from triton_in_interpreter import round_to_float8
from video_calls import LARGE, PATTERNS, draw, place_of

from attention import patterns as p
from attention import sparse
from attention.core.reference import relative_l2
from attention.patterns.spec import parts_of
from attention.sparse import own_triton
from attention.sparse.engine import Task
from attention.sparse.own_triton import HALF, INT8
from attention.sparse.runner import Runner

# Every engine that is this kernel; those that round coarsely take turns beside the one that does not.
ENGINES = tuple(engine for engine in sparse.TABLE if engine.plan is own_triton.plan)
COARSE = tuple(engine for engine in ENGINES if not engine.exact)
# Ragged grids of several blocks, context tokens that do and do not fill a block, one frame, one row.
GRIDS = (((5, 7, 9), 0, 0), ((3, 8, 10), 4, 0), ((2, 10, 10), 70, 5), ((1, 11, 13), 0, 3), ((4, 1, 37), 64, 0))
TAILS = (
    (p.TopBlocks(20, tail=True), 9),
    (p.TopBlocks(15, order="raster", tail=True), 0),
    (p.MassBlocks(30, order="morton", tail=True), 70),
)


def runner(pattern, video_span, engine, block=0):
    """As engine_registry.runners makes it, for an engine that would refuse the CPU."""
    tasks = ((weight, Task(part, video_span)) for weight, part in parts_of(pattern, block))
    return Runner(video_span, tuple((weight, task, engine) for weight, task in tasks))


def result(engine, pattern, video_span, tensors, wanted, block=0) -> dict:
    """Our kernel takes grouped heads: who repeats keys for it fails here."""
    run = runner(pattern, video_span, engine, block)
    before, expand = [t.clone() for t in tensors], sparse.runner.expand_kv
    sparse.runner.expand_kv = None
    out = run(*tensors)
    sparse.runner.expand_kv = expand
    unchanged = all(map(torch.equal, before, tensors))
    where = f"{video_span.grid} from {video_span.start}, q {list(tensors[0].shape)}, k {list(tensors[1].shape)}"
    return {
        "engine": engine.name,
        "row": pattern.name,
        "what": f"{pattern}, {where}, block {block}",
        "error": relative_l2(out, wanted),
        "unchanged": unchanged,
    }


def fixed_and_chosen():
    """Every pattern against the reference with its mask; the grids in turn, a coarse engine on every other pattern."""
    coarse = cycle(COARSE)
    for index, pattern in enumerate(PATTERNS):
        video_span = place_of(*GRIDS[index % len(GRIDS)])
        tensors = draw(video_span, heads=2, kv_heads=1, dim=64, dtype=torch.float16, split=index % 2 > 0)
        block = index % 2
        wanted = pattern_truth.attention(pattern, video_span, *tensors, block=block)
        for engine in (HALF, next(coarse))[: 1 + index % 2]:
            yield result(engine, pattern, video_span, tensors, wanted, block)


def drawn(seed: int):
    """A pattern of every row and a call that nobody chose."""
    random, coarse = Random(seed), cycle(COARSE)
    for row in p.TABLE:
        pattern, block = pattern_rows.drawn(row, random), random.randint(0, 1)
        grid = random.choice([grid for grid, *_ in GRIDS])
        video_span = place_of(grid, random.choice((0, 3, 64, 70)), random.choice((0, 5)))
        heads, dim = random.choice(((2, 2), (2, 1), (4, 2))), random.choice((16, 40, 64, 128))
        tensors = draw(video_span, *heads, dim, dtype=torch.float16, seed=random.randint(0, 99))
        wanted = pattern_truth.attention(pattern, video_span, *tensors, block=block)
        for engine in (HALF, next(coarse)):
            yield result(engine, pattern, video_span, tensors, wanted, block)


def tails():
    """Blocks that are left out and count by their means."""
    for (pattern, before), engine in zip(TAILS, (INT8, HALF, HALF)):
        video_span = place_of((3, 8, 17), before)
        tensors = draw(video_span, heads=4, kv_heads=2, dim=64, dtype=torch.float16)
        yield result(engine, pattern, video_span, tensors, pattern_truth.attention(pattern, video_span, *tensors))


def large():
    """Thousands of tokens, where their order matters: in raster order nearly every tile would be seen."""
    video_span = place_of(LARGE, 5)
    tensors = draw(video_span, heads=1, kv_heads=1, dim=64, dtype=torch.float16)
    pattern = p.Temporal()
    wanted = pattern_truth.attention(pattern, video_span, *tensors)
    yield result(HALF, pattern, video_span, tensors, wanted)


def again() -> bool:
    """Whether a pattern with a tail gives the same twice."""
    video_span = place_of((3, 8, 10), 4)
    run, tensors = runner(TAILS[0][0], video_span, INT8), draw(video_span, dim=64, dtype=torch.float16)
    return torch.equal(run(*tensors), run(*tensors))


if __name__ == "__main__":
    torch.set_num_threads(1)
    interpreter._convert_float = round_to_float8(interpreter._convert_float)
    cases = [*fixed_and_chosen(), *drawn(json.load(sys.stdin)), *tails(), *large()]
    json.dump({"cases": cases, "again": again()}, sys.stdout)
