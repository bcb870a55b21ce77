"""Single tokens beside the chosen blocks: against float64 attention to just these, and what refuses them."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_calls import draw, first_runner, place_of

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.peak_memory import peak_of
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.patterns.blocks import KEYS, QUERIES, block_order, select_blocks
from attention.patterns.density import density
from attention.sparse import engine, engine_registry
from attention.sparse.single_tokens import Singles

torch.set_num_threads(1)
# So that no two tokens stand out alike.
EXACT = torch.float64
KINDS = {
    "top blocks": p.TopBlocks(10),
    "by heads": p.TopBlocks(20, order="morton", by_heads=(20, 5)),
    "by mass": p.MassBlocks(30, order="raster"),
    "adaptive": p.AdaptiveBlocks(1.5),
}


def truth(pattern, video_span, q, k, v):
    """Attention of the video's queries in float64: chosen blocks, singles, the means of the others, all else."""
    q, k, v = q.double(), k.double(), v.double()
    scale, keys = q.shape[-1] ** -0.5, slice(video_span.start, video_span.stop)
    to, _ = block_order(pattern, video_span.grid)
    at = video_span.start + to
    own_q, own_k, own_v = q[:, :, at], k[:, :, at], v[:, :, at]
    seen = select_blocks(pattern, own_q, own_k, scale)
    out = scaled_dot_product_attention(q, k, v)
    rest = torch.ones(k.shape[2], dtype=torch.bool)
    rest[keys] = False
    for place in torch.cartesian_prod(*(torch.arange(n) for n in seen.shape[:3])):
        b, h, r = (int(n) for n in place)
        rows = slice(r * QUERIES, min((r + 1) * QUERIES, len(to)))
        tokens = seen[b, h, r].repeat_interleave(KEYS)[: len(to)].clone()
        mean = own_q[b, h, rows].mean(0)
        others = (~tokens).nonzero().flatten()
        scores = own_k[b, h, others] @ mean
        single = others[scores.argsort(descending=True)[: pattern.singles]]
        tokens[single] = True
        ks, vs = ([t[b, h, tokens], s[b, h, rest]] for t, s in ((own_k, k), (own_v, v)))
        weights = [torch.zeros(int(tokens.sum() + rest.sum()), dtype=torch.float64)]
        if pattern.tail:
            for c in (~seen[b, h, r]).nonzero().flatten().tolist():
                block = slice(c * KEYS, min((c + 1) * KEYS, len(to)))
                left = int((~tokens[block]).sum())
                if left:
                    ks.append(own_k[b, h, block].mean(0, keepdim=True))
                    vs.append(own_v[b, h, block].mean(0, keepdim=True))
                    weights.append(torch.tensor([left], dtype=torch.float64).log())
        row = own_q[b, h, rows] @ torch.cat(ks).mT * scale + torch.cat(weights)
        out[b, h, at[rows]] = row.softmax(-1) @ torch.cat(vs)
    return out


@pytest.mark.parametrize("singles", [1, 64, 256, 100_000])
@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_out_is_seen_too(kind, tail, singles):
    pattern = replace(KINDS[kind], tail=tail, singles=min(singles, 1024))
    video_span = place_of((7, 8, 9), 7, 3)
    q, k, v = draw(video_span, dim=32, batch=2, dtype=EXACT)
    runner = first_runner(pattern, video_span, describe(q, k, v))
    assert [engine.name for _, _, engine in runner.parts] == ["blocks"]
    assert relative_l2(runner(q, k, v), truth(pattern, video_span, q, k, v)) < 1e-5
    without = first_runner(replace(pattern, singles=0), video_span, describe(q, k, v))
    dense = scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert relative_l2(runner(q, k, v), dense) < relative_l2(without(q, k, v), dense)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)), st.integers(1, 300), st.booleans(),
    st.sampled_from(["tile", "hilbert", "raster"]), st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_grid_and_number(grid, singles, tail, order, context):
    pattern = p.TopBlocks(30, order=order, tail=tail, singles=singles)
    video_span = place_of(grid, context)
    q, k, v = draw(video_span, dtype=EXACT)
    runner = first_runner(pattern, video_span, describe(q, k, v))
    if isinstance(runner, Reason):
        return
    assert relative_l2(runner(q, k, v), truth(pattern, video_span, q, k, v)) < 1e-5


def test_scores_are_held_in_slices(monkeypatch):
    """They are a number for each key and block of queries, which grows with the square of the tokens."""
    q, k = (torch.randn(1, 1, 16_384, 64, dtype=torch.bfloat16) for _ in range(2))
    seen = torch.rand(1, 1, q.shape[2] // QUERIES, k.shape[2] // KEYS) < 0.1
    found = []
    for room in (64 << 20, 1 << 20):
        monkeypatch.setattr(engine, "THREAD_BYTES", room)
        found.append(peak_of(lambda: Singles(64, q, k, seen, None), q.device))
    (whole, most), (sliced, least) = found
    size = q.numel() * q.element_size()
    # Keys in float32 are two of q, and whole scores in float32 as many again for each 4,096 tokens.
    assert least < 3 * size < 6 * size < most
    assert torch.equal(whole._at.sort().values, sliced._at.sort().values) and not sliced._hidden.any()


def test_who_cannot_says_so():
    video_span = place_of((7, 8, 9), 5)
    q, k, v = draw(video_span, dim=64)
    pattern = p.TopBlocks(20, singles=64)
    masked = describe(q, k, v, torch.ones(1, 1, 1, k.shape[2], dtype=torch.bool))
    task = engine_registry.Task(pattern, video_span)
    found = {row.name: row.refuses(task, masked) for row in engine_registry.TABLE}
    assert found["blocks"] == "finds no single tokens under a mask"
    assert {name for name, why in found.items() if why is None} == set()
    for name in ("video attention int8", "video attention 16 bit", "video attention float8"):
        assert found[name] == "sees whole blocks alone, no single tokens"
    plain = engine_registry.Task(replace(pattern, singles=0), video_span)
    assert engine_registry.candidates(plain, masked)[0].name == "blocks"


def test_they_are_counted():
    grid = (8, 16, 16)
    more = density(p.TopBlocks(20, singles=64), grid) - density(p.TopBlocks(20), grid)
    assert more == pytest.approx(64 / prod(grid))
    assert p.TopBlocks(20, singles=64).sizes_in_tokens(grid).endswith(", and 64 single tokens")
