"""Calls over a video's grid: q, k, v, where the video stands in them, and what an engine gives for them."""

from __future__ import annotations

import pattern_rows
import pattern_truth
import torch

from attention.core.geometry import Geometry, describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.sparse import engine_registry
from attention.sparse.runner import Runner

# Every row of the table, by hand or as drawn for it: none is dense on these grids, none has a tail.
PATTERNS = pattern_rows.without_tail(((5, 7, 6), (9, 8, 8)))
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 1e-2, torch.float16: 2e-3}
# Several thousand tokens with the masks that a real video has: tiles with runs of tokens, chunks, permutations.
LARGE = (5, 16, 24)


def place_of(grid, before=0, after=0) -> VideoSpan:
    return VideoSpan(grid, before, BOTH, (Span("text", before),), (Span("audio", after),))


def draw(video_span, heads=2, kv_heads=2, dim=16, batch=1, dtype=torch.float32, split=True, seed=0):
    """q, k, v as ComfyUI has them: views of (B, L, H * D), or (B, H, L, D) in memory when `split`."""
    torch.manual_seed(seed)
    length = video_span.stop + sum(span.length for span in video_span.after)
    made = []
    for n in (heads, kv_heads, kv_heads):
        one = torch.randn(batch, n, length, dim) if split else torch.randn(batch, length, n, dim).transpose(1, 2)
        made.append(one.to(dtype))
    return made


def first_runner(pattern, video_span: VideoSpan, geometry: Geometry, **how) -> Runner | Reason:
    """The best of the Runners for a pattern in such calls, or why there is none. how: as of engine_registry.runners."""
    able = engine_registry.runners(pattern, video_span, geometry, **how)
    return able if isinstance(able, Reason) else able[0]


def compare(pattern, video_span, tensors, engine=engine_registry.AUTO, tolerance=TOLERANCE[torch.float32], **how):
    """The Runner, after its output was compared; the reason when it refuses."""
    runner = first_runner(pattern, video_span, describe(*tensors), engine=engine, **how)
    if isinstance(runner, Reason):
        return runner
    before = [t.clone() for t in tensors]
    out = runner(*tensors)
    wanted = pattern_truth.attention(pattern, video_span, *tensors, block=how.get("block", 0))
    assert out.shape == tensors[0].shape and out.dtype == tensors[0].dtype
    assert relative_l2(out, wanted) <= tolerance, f"{pattern} on {runner.engines}"
    assert all(t.equal(b) for t, b in zip(tensors, before)), f"{runner.engines} changed its inputs"
    assert runner(*tensors).equal(out), f"{runner.engines} is not deterministic"
    return runner
