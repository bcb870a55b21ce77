"""Memory of every engine of patterns, by counted bytes: 1.25 times q, k, v and the output, at any length.

What is held grows with a call's tokens and heads alone, so a short call tells it: here every call counts as large, and
what is gathered at once is as much of it as of a long one. Libraries that are not here are asked for nothing but the
output; our own Triton kernel's programs are not run, what they read and write is made as for a GPU.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from math import prod

import engines_here
import pytest
import torch
from pattern_rows import default

from attention import patterns as p
from attention import sparse
from attention.backends import own_triton as own_backends
from attention.backends import registry
from attention.backends.triton import launch, quantize
from attention.core.chunks import output_bytes
from attention.core.geometry import describe
from attention.core.peak_memory import peak_of
from attention.core.reason import Reason
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.sparse import engine, engine_registry, flex, kitchen, own_triton, runner

torch.set_num_threads(1)
HEADS, DIM, GRID, TEXT = 12, 64, (4, 16, 16), 20
CPU = torch.device("cpu")
# Every pattern of the table.
PATTERNS = tuple(map(default, p.TABLE))
# LTX at 1920 x 1088 and 121 frames, and two grids from whose bytes its are told: they grow as tokens do, where a
# pattern takes the same order of tokens on both.
GOAL, MOST, SIZES = 32_640, 1.25, ((6, 16, 16), (8, 16, 16))
OWN = (own_triton.INT8, own_triton.HALF, own_triton.FLOAT8)


class Programs:
    """Stands in for the compiled programs of our kernel: starts none of them."""

    def __getitem__(self, _):
        return self

    def __call__(self, *args, **kw):
        """Starts nothing."""


@pytest.fixture
def large(monkeypatch):
    """Every call is a large one, on a machine where nothing is compiled."""
    monkeypatch.setattr(runner, "LARGE_BYTES", 0)
    monkeypatch.setattr(engine, "THREAD_BYTES", HEADS * prod(GRID) * DIM * 2 // 8)
    for module in (launch, quantize):
        monkeypatch.setattr(module, "compiled", Programs)
    monkeypatch.setattr(launch, "triton_version", lambda: (3, 9, 0))
    # Nothing is compiled here, so it may be looked at.
    monkeypatch.setattr(flex, "unseen", contextlib.nullcontext)
    monkeypatch.setattr(flex, "compiled", lambda: lambda q, k, v, block_mask=None, scale=None: torch.empty_like(q))
    library = {
        "na3d": lambda q, k, v, size, scale=None: torch.empty_like(q),
        "sol_attn": lambda q, *_, **kw: torch.empty_like(q),
    }
    monkeypatch.setattr(kitchen, "load", library.get)
    monkeypatch.setattr(registry, "why_not", lambda name, geometry=None: None)


def told(geometry):
    """As on a GPU of any maker's for which a row runs."""
    return engines_here.as_on_gpu(geometry)


def runner_of(row, pattern, text, dtype, grid=GRID):
    span = VideoSpan(grid, 0, BOTH, (), (Span("text", text),) if text else ())
    q, k, v = (torch.randn(1, span.length, HEADS, DIM, dtype=dtype).transpose(1, 2) for _ in range(3))
    call = describe(q, k, v)
    call = told(call) if row.name in engines_here.STAND_INS or row in OWN else call
    found = engine_registry.runners(pattern, span, call, engine=row.name)
    return None if isinstance(found, Reason) else found[0], (q, k, v)


@pytest.mark.parametrize("row", sparse.TABLE, ids=lambda row: row.name)
def test_an_engine_holds_little_beside_the_calls_own_tensors(row, large):
    found = {}
    for pattern in PATTERNS:
        for text in (TEXT, 0):
            run, tensors = runner_of(row, pattern, text, torch.bfloat16)
            if run is None:
                continue
            with torch.inference_mode():
                run(*tensors)  # plans are made once
                _, peak = peak_of(lambda run=run, tensors=tensors: run(*tensors), CPU)
            given = sum(t.numel() * t.element_size() for t in tensors)
            out = tensors[0].numel() * tensors[0].element_size()
            found[pattern.name, text] = (given + peak) / (given + out)
    assert found, f"{row.name} ran nothing"
    assert max(found.values()) <= 1.25, found


@pytest.mark.parametrize("row", sparse.TABLE, ids=lambda row: row.name)
def test_no_engine_holds_more_at_32640_tokens(row, large):
    """By the bytes of two sizes: what does not grow with the tokens, as an engine's scratch, counts as it is."""
    ran = False
    for pattern in PATTERNS:
        found = [runner_of(row, pattern, 0, torch.bfloat16, grid) for grid in SIZES]
        if None in (run for run, _ in found):
            continue
        peaks, lengths = [], [prod(grid) for grid in SIZES]
        for run, tensors in found:
            with torch.inference_mode():
                run(*tensors)
                peaks.append(peak_of(lambda run=run, tensors=tensors: run(*tensors), CPU)[1])
        slope = (peaks[1] - peaks[0]) / (lengths[1] - lengths[0])
        token = HEADS * DIM * 2
        held = 3 * token * GOAL + peaks[1] + slope * (GOAL - lengths[1])
        assert held <= MOST * 4 * token * GOAL, f"{pattern.name}: {held / (4 * token * GOAL):.3f}"
        ran = True
    assert ran, f"{row.name} ran nothing"


def test_calls_that_are_not_large_stay_whole(large, monkeypatch):
    monkeypatch.setattr(runner, "LARGE_BYTES", 1 << 40)
    q = torch.zeros(1, HEADS, 64, DIM)
    assert runner.usual_heads(q, q, q, 5) == HEADS
    monkeypatch.setattr(runner, "LARGE_BYTES", 0)
    assert runner.usual_heads(q, q, q, 5) == 1
    shared = q[:, :4]
    assert runner.usual_heads(q, shared, shared, 5) == 3, "heads that share keys stay together"


@pytest.mark.parametrize("row", [own_backends.INT8, own_backends.HALF, own_backends.FLOAT8], ids=lambda row: row.name)
def test_our_own_kernel_takes_what_its_row_says(row, large):
    how = {"quantized": row.name != own_backends.HALF.name, "float8": row.name == own_backends.FLOAT8.name}
    q, k, v = (torch.randn(1, 512, HEADS, 128, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3))
    call = replace(describe(q, k, v), device="cuda", capability=(8, 0))
    with torch.inference_mode():
        _, peak = peak_of(
            lambda: launch.run(q, k, v, None, 0.1, how["quantized"], how["float8"], True, *(None,) * 5), CPU
        )
    # Where sums are float16 there is a copy of v as well, which this GPU does not make.
    spare = output_bytes(call) if how["quantized"] and not how["float8"] else 0
    assert peak <= row.takes(call) * 1.02 and peak >= (row.takes(call) - spare) * 0.9
