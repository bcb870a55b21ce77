"""Every pattern with a mask of its own on every engine, on a real GPU in 16 bit, against float64 under that mask."""

from __future__ import annotations

import pattern_rows
import pattern_truth
import pytest
import torch
from devices import CUDA
from pattern_calls import Call

from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.patterns.spec import parts_of, relation_of
from attention.sparse import engine_registry
from benchmarks.gpu.right import limit_of

GRID = (6, 10, 13)
FIXED = [
    pattern
    for pattern in (*pattern_rows.defaults(), *pattern_rows.EDGES)
    if all(relation_of(part, GRID) is not None for _, part in parts_of(pattern))
]


def test_there_are_patterns_to_try():
    assert len(FIXED) > 8


@pytest.mark.parametrize("device", [CUDA])
@pytest.mark.parametrize("pattern", FIXED, ids=repr)
@pytest.mark.parametrize("engine", engine_registry.names())
def test_an_engine_on_the_gpu(engine, pattern, device):
    call = Call(heads=(4, 2), dim=64, before=5, after=3)
    span = call.video_span(GRID)
    q, k, v = (t.to(device, torch.bfloat16) for t in call.tensors(span)[:3])
    found = engine_registry.runners(pattern, span, describe(q, k, v), engine=engine)
    if isinstance(found, Reason):
        pytest.skip(found)
    wide = (t.double().cpu() for t in (q, k, v))
    wanted = pattern_truth.attention(pattern, span, *wide, None, 0, None)
    assert relative_l2(found[0](q, k, v).cpu(), wanted) <= limit_of(engine, torch.bfloat16)
