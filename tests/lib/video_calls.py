"""Calls over a video's grid: q, k, v, where the video stands in them, and what a pattern gives in float64."""

from __future__ import annotations

import torch

from attention import patterns as p
from attention import sparse
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.patterns import blocks

PATTERNS = (
    p.Spatial(),
    p.Temporal(),
    p.Factorised(),
    p.Factorised(weight=0.3),
    p.TemporalWindow(frames=3),
    p.SlidingTile(frames=4, height=60, width=40, tile=(2, 3, 3)),
    p.SlidingTile(frames=2, height=100, width=100, tile=(1, 4, 4)),
    p.Neighbourhood(frames=3, height=40, width=50),
    p.Radial(keep=60, step=10),
    p.Radial(step=1, first_frame=False),
    p.TopBlocks(keep=30),
    p.TopBlocks(keep=40, order="raster"),
    p.MassBlocks(mass=40, order="hilbert"),
    p.TopBlocks(keep=60, by_heads=(60, 15)),
    p.AdaptiveBlocks(tau=0.3),
    p.Union((p.Spatial(), p.Temporal())),
    p.Intersection((p.Radial(step=1), p.Neighbourhood(frames=4))),
)
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


def truth(pattern, video_span, q, k, v, scale=None, block=0):
    """Reference attention in float64 under the pattern's dense mask, all other tokens open to everybody."""
    start, stop, out = video_span.start, video_span.stop, 0.0
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    index = torch.arange(stop - start)
    for weight, part in p.parts(pattern, block):
        seen = torch.ones(q.shape[0], q.shape[1], q.shape[2], q.shape[2], dtype=torch.bool)
        relation = p.on(part, video_span.grid)
        video = (t[:, :, start:stop] for t in (q, k))
        seen[:, :, start:stop, start:stop] = (
            blocks.mask(part, *video, video_span.grid, scale)
            if relation is None
            else relation.mask_mod(0, 0, index[:, None], index[None, :])
        )
        out = out + weight * scaled_dot_product_attention(q.double(), k.double(), v.double(), seen, scale)
    return out


def compare(pattern, video_span, tensors, engine=sparse.AUTO, tolerance=TOLERANCE[torch.float32], **how):
    """The Runner, after its output was compared; the reason when it refuses."""
    runner = sparse.prepare(pattern, video_span, describe(*tensors), engine=engine, **how)
    if isinstance(runner, Reason):
        return runner
    before = [t.clone() for t in tensors]
    out = runner(*tensors)
    wanted = truth(pattern, video_span, *tensors, block=how.get("block", 0))
    assert out.shape == tensors[0].shape and out.dtype == tensors[0].dtype
    assert relative_l2(out, wanted) <= tolerance, f"{pattern} on {runner.engines}"
    assert all(t.equal(b) for t, b in zip(tensors, before)), f"{runner.engines} changed its inputs"
    assert runner(*tensors).equal(out), f"{runner.engines} is not deterministic"
    return runner
