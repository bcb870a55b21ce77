"""Masks of the host under a pattern, and self-attention that the host does in several calls, each with some of the
queries and all keys: every pattern equals float64 attention under both masks, or is refused with a reason."""

from dataclasses import replace
from math import prod

import pattern_truth
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_calls import PATTERNS, TOLERANCE, draw, first_runner, place_of

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.grid import ORDERS
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, VideoSpan
from attention.patterns import blocks
from attention.patterns.blocks import block_order
from attention.patterns.spec import is_fixed, parts_of, relation_of
from attention.sparse import engine_registry, gather_blocks, gather_tiles
from attention.sparse.engine import Task

torch.set_num_threads(1)

TAILED = (
    p.TopBlocks(30, tail=True),
    p.MassBlocks(40, tail=True, order="morton"),
    p.TopBlocks(50, tail=True, by_heads=(50, 20)),
)
KINDS = ("context", "keys", "rows", "heads", "bool")


def guide_masks(video_span, strength=0.7):
    """What ComfyUI adds for guides of part strength behind the video: (queries, mask) of its two calls."""
    n, length = video_span.stop, video_span.length
    video, guides = torch.zeros(1, 1, 1, length), torch.zeros(1, 1, length - n, length)
    video[..., n:] = guides[..., :n] = torch.tensor(strength).log()
    return ((0, n), video), ((n, length), guides)


def drawn(kind, q_len, length, batch, heads, seed=1):
    """A mask of the host: of some kind and shape, never hiding a query's every key."""
    torch.manual_seed(seed)
    shape = {"context": (1, 1, 1, length), "keys": (batch, 1, 1, length), "rows": (1, 1, q_len, length),
             "heads": (batch, heads, q_len, length), "bool": (1, 1, 1, length)}[kind]  # fmt: skip
    if kind == "bool":
        return torch.rand(shape) > 0.3
    return torch.randn(shape)


def wanted_of(pattern, video_span, q, k, v, mask, block=0, rows=None):
    """Float64: softmax over what the pattern lets see, with the host's mask added. q: of the whole sequence."""
    if hasattr(pattern, "turns"):
        turns = pattern.turns(video_span.grid)
        pattern = turns[block % len(turns)]
    seen = seen_by(pattern, video_span, q, k, block)
    first, last = rows or (0, q.shape[2])
    out, bias = 0.0, torch.zeros(())
    if mask is not None:
        bias = mask if mask.dtype != torch.bool else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    for weight, visible in seen:
        added = torch.zeros(visible.shape).double().masked_fill(~visible, -torch.inf)[:, :, first:last] + bias
        out = out + weight * scaled_dot_product_attention(q[:, :, first:last].double(), k.double(), v.double(), added)
    return out


def seen_by(pattern, video_span, q, k, block=0):
    start, stop = video_span.start, video_span.stop
    index = torch.arange(stop - start)
    for weight, part in parts_of(pattern, block):
        seen = torch.ones(*q.shape[:3], q.shape[2], dtype=torch.bool)
        relation = relation_of(part, video_span.grid)
        video = (t[:, :, start:stop] for t in (q, k))
        seen[:, :, start:stop, start:stop] = (
            blocks.mask(part, *video, video_span.grid)
            if relation is None
            else relation.mask_mod(0, 0, index[:, None], index[None, :])
        )
        yield weight, seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_a_mask_of_the_host_beside_the_pattern(pattern, kind):
    """On the engine that comes first and on each one by name; the others say that they take none."""
    ran = set()
    for grid, before, after in (((5, 7, 6), 4, 3), ((9, 8, 8), 0, 5)):
        video_span = place_of(grid, before, after)
        q, k, v = draw(video_span, batch=2, seed=before)
        mask = drawn(kind, q.shape[2], q.shape[2], 2, 2)
        wanted = wanted_of(pattern, video_span, q, k, v, mask)
        for engine in engine_registry.names():
            runner = first_runner(pattern, video_span, describe(q, k, v, mask), engine=engine)
            if isinstance(runner, Reason):
                continue
            ran.add(engine)
            assert relative_l2(runner.kernel(q, k, v, mask=mask), wanted) < 1e-6, engine
    assert ran & {"tiles", "blocks"}


@settings(max_examples=80)
@given(
    st.sampled_from(PATTERNS), st.tuples(*[st.integers(1, 7)] * 3), st.integers(0, 4), st.integers(1, 30),
    st.integers(0, 1),
)  # fmt: skip
def test_guides_of_part_strength(pattern, grid, before, guides, block):
    """The host's two calls: the video's queries with a mask over the guides' keys, and the guides' with one of rows."""
    video_span = place_of(grid, before, guides)
    q, k, v = draw(video_span, seed=guides)
    for rows, mask in guide_masks(video_span):
        part, call = replace(video_span, part=rows), describe(q[:, :, slice(*rows)], k, v, mask, low_precision=False)
        runner = first_runner(pattern, part, call, block=block)
        if rows[0] >= video_span.stop:
            assert runner == "no query is the video's"
        elif isinstance(runner, Reason):
            assert runner.endswith("is dense")
        else:
            out = runner.kernel(q[:, :, slice(*rows)], k, v, mask=mask)
            assert relative_l2(out, wanted_of(pattern, video_span, q, k, v, mask, block, rows)) < 1e-6


@settings(max_examples=80)
@given(
    st.sampled_from([each for each in PATTERNS if is_fixed(each)]),
    st.tuples(*[st.integers(1, 7)] * 3),
    st.integers(0, 4),
    st.integers(0, 4),
    st.data(),
)
def test_any_part_of_the_queries(pattern, grid, before, after, data):
    """Parts that cut the video: the same rows of the same mask."""
    video_span = place_of(grid, before, after)
    q, k, v = draw(video_span, batch=2)
    whole = first_runner(pattern, video_span, describe(q, k, v))
    if isinstance(whole, Reason):
        return
    ends = sorted({0, video_span.length, *data.draw(st.lists(st.integers(0, video_span.length), max_size=3))})
    wanted = whole(q, k, v)
    for first, last in zip(ends, ends[1:]):
        part, some = replace(video_span, part=(first, last)), q[:, :, first:last]
        runner = first_runner(pattern, part, describe(some, k, v))
        if isinstance(runner, Reason):
            assert runner == "no query is the video's"
            assert last <= video_span.start or first >= video_span.stop
            continue
        mask = drawn("rows", last - first, video_span.length, 2, 2)
        assert relative_l2(runner(some, k, v), wanted[:, :, first:last]) < 1e-6
        masked = first_runner(pattern, part, describe(some, k, v, mask))
        truth_ = wanted_of(pattern, video_span, q, k, v, mask, rows=(first, last))
        assert relative_l2(masked.kernel(some, k, v, mask=mask), truth_) < 1e-6


@pytest.mark.parametrize("engine", [gather_blocks, gather_tiles])
def test_plans_of_parts_share_what_is_about_all_tokens(engine):
    """On a GPU each would hold the order of all keys: 0.3 MiB of a Wan clip at 480p, for each part."""
    grid, device = (6, 8, 8), torch.device("meta")
    pattern = p.TopBlocks(30, order="morton") if engine is gather_blocks else p.SlidingTile(3, 50.0, 50.0, (2, 4, 4))
    whole = VideoSpan(grid, 0, BOTH)
    plans = [
        engine.plan(Task(pattern, replace(whole, part=part)), device, torch.float32)
        for part in (None, (0, 64), (64, 128))
    ]
    assert plans[0].permutation is not None and plans[0].permutation.device == device
    assert all(plan.permutation is plans[0].permutation for plan in plans)


@pytest.mark.parametrize("order", ORDERS)
def test_queries_of_a_part_make_blocks_of_their_own(order):
    """As many at a time as the call has of them, in the pattern's order; each sees the blocks that it is among."""
    grid, frame, pattern = (5, 9, 16), 144, p.TopBlocks(10, order=order)
    video_span = place_of(grid, 3, 4)
    q, k, v = draw(video_span, batch=2)
    for t in range(grid[0]):
        rows = (3 + t * frame, 3 + (t + 1) * frame)
        part, some = replace(video_span, part=rows), q[:, :, slice(*rows)]
        runner = first_runner(pattern, part, describe(some, k, v))
        assert runner.engines == ("blocks",)
        assert relative_l2(runner(some, k, v), pattern_truth.attention(pattern, part, some, k, v)) < 1e-6
        seen = select_blocks_of(pattern, part, some, k)
        assert seen.shape[-2:] == (2, 12) and seen.sum(-1).max() < 12
        to = block_order(pattern, grid)[0]
        of_call = [i for i in range(len(to)) if t * frame <= to[i] < (t + 1) * frame]
        for row in range(2):
            assert seen[:, :, row, sorted({i // 64 for i in of_call[128 * row : 128 * row + 128]})].all()
    others = first_runner(pattern, part, describe(some, k, v), engine="video attention 16 bit")
    assert others == "video attention 16 bit: a part of the video's queries"


def select_blocks_of(pattern, video_span, q, k):
    """What the engine selects in a call with a part of the queries."""
    chosen = []
    plan = gather_blocks.plan(Task(pattern, video_span), torch.device("cpu"), torch.float32)
    keys = k[:, :, video_span.start : video_span.stop]
    nothing = (k[:, :, :0], k[:, :, :0])
    gather_blocks.run((q, keys, keys), nothing, None, plan, lambda select, sample: chosen.append(select()) or chosen[0])
    return chosen[0]


@pytest.mark.parametrize("pattern", TAILED, ids=repr)
def test_a_tail_under_a_mask_of_keys(pattern):
    """One softmax: kept keys, and for each block that is not kept its tokens' weighted mean, as heavy as they are."""
    grid, guides = (6, 9, 8), 20
    video_span = place_of(grid, 0, guides)
    q, k, v = draw(video_span, batch=2, seed=3)
    n = prod(grid)
    to, back = blocks.block_order(pattern, grid)
    for mask in (
        guide_masks(video_span)[0][1],
        drawn("keys", 1, video_span.length, 2, 2),
        drawn("bool", 1, video_span.length, 2, 2),
    ):
        bias = mask if mask.dtype != torch.bool else torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
        bias = bias.double().expand(2, 1, 1, -1)
        queries, keys, values = (t[:, :, :n][:, :, to].double() for t in (q, k, v))
        weight = bias[..., :n].exp()[..., to].squeeze(2)[..., None]
        chosen = blocks.select_blocks(pattern, *(t[:, :, :n][:, :, to] for t in (q, k)))
        pieces = [slice(i, i + 64) for i in range(0, n, 64)]
        share = torch.stack([weight[:, :, s].sum(2) for s in pieces], 2)
        means = [torch.stack([(t * weight)[:, :, s].sum(2) for s in pieces], 2) / share for t in (keys, values)]
        rows = chosen.repeat_interleave(128, dim=2)[:, :, :n]
        exact = rows.repeat_interleave(64, dim=3)[..., :n]
        added = torch.cat([
            bias[..., :n][..., to].expand(exact.shape).masked_fill(~exact, -torch.inf),
            share[..., 0].log()[:, :, None].expand(rows.shape).masked_fill(rows, -torch.inf),
            bias[..., n:].expand(2, 2, n, guides),
        ], 3)  # fmt: skip
        every = [torch.cat([t, m, s[:, :, n:].double()], 2) for t, m, s in zip((keys, values), means, (k, v))]
        wanted = scaled_dot_product_attention(queries, *every, added)[:, :, back]
        call = describe(q[:, :, :n], k, v, mask)
        runner = first_runner(pattern, replace(video_span, part=(0, n)), call)
        assert relative_l2(runner.kernel(q[:, :, :n], k, v, mask=mask), wanted) < 1e-6
    dense = describe(q, k, v, torch.zeros(1, 1, video_span.length, video_span.length))
    assert "dense mask: a block's mean" in first_runner(pattern, video_span, dense)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_masks_in_half_precision_and_for_grouped_heads(dtype):
    video_span = place_of((5, 6, 7), 3, 9)
    q, k, v = draw(video_span, heads=4, dtype=dtype, batch=2, split=False)
    rows, mask = guide_masks(video_span)[0]
    mask = mask.to(dtype)
    for pattern in PATTERNS:
        call = describe(q[:, :, : rows[1]], k, v, mask)
        runner = first_runner(pattern, replace(video_span, part=rows), call)
        doubled = (q, *(t.repeat_interleave(2, dim=1) for t in (k, v)))
        wanted = wanted_of(pattern, video_span, *doubled, mask, rows=rows)
        out = runner.kernel(q[:, :, : rows[1]], k, v, mask=mask)
        assert out.dtype == dtype and relative_l2(out, wanted) < TOLERANCE[dtype]


def test_engines_that_take_no_mask_and_no_exactness_say_so():
    call = describe(*draw(place_of((4, 5, 6))))
    for kind in ("key", "dense"):
        masked = replace(call, mask=kind)
        assert first_runner(p.Spatial(), place_of((4, 5, 6)), masked).engines == ("slabs",)
        assert first_runner(p.Temporal(), place_of((4, 5, 6)), masked, engine="folded") == f"folded: {kind} mask"
    exact = replace(call, low_precision=False)
    assert first_runner(p.TopBlocks(), place_of((4, 5, 6)), exact).engines == ("blocks",)
    for name in ("comfy-kitchen sol_attn", "video attention int8", "video attention float8"):
        reason = first_runner(p.TopBlocks(), place_of((4, 5, 6)), exact, engine=name)
        assert reason == f"{name}: the model asks for exact attention here"
