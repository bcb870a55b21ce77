"""Every pattern on every engine: it refuses with a reason, or equals the reference with the pattern's mask."""

from dataclasses import replace
from math import prod

import pattern_truth
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from video_calls import LARGE, PATTERNS, TOLERANCE, compare, draw, first_runner, place_of

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import KEYS, QUERIES, VideoSpan
from attention.patterns import blocks
from attention.patterns.density import density, flop_ratio
from attention.patterns.spec import relation_of
from attention.sparse import engine as engines
from attention.sparse import engine_registry, gather_tiles, tile_layout
from attention.sparse.runner import plan_of_all

torch.set_num_threads(1)

# One frame, one row, one column, prime sizes, whole tiles, more blocks than one.
GRIDS = ((5, 7, 3), (1, 11, 13), (4, 1, 17), (3, 9, 1), (4, 6, 6), (9, 8, 8))


@pytest.mark.parametrize("engine", engine_registry.names())
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_refuses_or_is_right(pattern, engine):
    ran = []
    for index, grid in enumerate(GRIDS):
        video_span = place_of(grid, *((0, 0), (4, 0), (0, 3), (2, 5))[index % 4])
        tensors = draw(video_span, batch=1 + index % 2, split=index % 3 > 0)
        found = compare(pattern, video_span, tensors, engine)
        assert found, "an empty reason"
        ran.append(not isinstance(found, Reason))
    # A grid on which the pattern is dense is refused; else an engine takes a pattern on all grids or on none.
    if engine in ("tiles", "blocks") and (relation_of(pattern, (9, 8, 8)) is None) == (engine == "blocks"):
        assert ran[-1]


@settings(max_examples=60)
@given(
    st.sampled_from(PATTERNS),
    st.tuples(*[st.integers(1, 8)] * 3),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 1),
)
def test_any_grid_and_span(pattern, grid, before, after, block):
    video_span = place_of(grid, before, after)
    runner = compare(pattern, video_span, draw(video_span), block=block)
    assert not isinstance(runner, Reason) or "dense" in runner


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_dtypes_scale_and_grouped_heads(pattern, dtype):
    video_span = place_of((5, 6, 7), 3, 2)
    tensors = draw(video_span, heads=4, dtype=dtype, split=False)
    runner = compare(pattern, video_span, tensors, tolerance=TOLERANCE[dtype])
    wanted = pattern_truth.attention(pattern, video_span, *tensors, scale=0.5)
    assert relative_l2(runner(*tensors, scale=0.5), wanted) <= 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "pattern",
    [p.SlidingTile(), p.Neighbourhood(3), p.Radial(keep=40), p.Union((p.Radial(keep=20), p.SlidingTile()))],
    ids=lambda pattern: pattern.name,
)
def test_tiles_on_a_real_grid(pattern, kept, monkeypatch):
    """Whole runs of tokens, many chunks, with kept masks and with masks made in the call."""
    monkeypatch.setattr(tile_layout, "MASK_BYTES", 128 << 20 if kept else 0)
    monkeypatch.setattr(engines, "THREAD_BYTES", 1 << 20)
    tile_layout.layout.cache_clear()
    plan_of_all.cache_clear()
    video_span = place_of(LARGE, 5)
    compare(pattern, video_span, draw(video_span), "tiles")
    tile_layout.layout.cache_clear()
    plan_of_all.cache_clear()


def test_aligned_windows_need_no_mask():
    """What makes sliding tiles fast: whole runs of tokens, no mask, no pair computed in vain."""
    found = tile_layout.layout(p.SlidingTile(frames=4, tile=(1, 8, 8)), LARGE)
    assert found.run >= 64 and all(tile.full for tile in found.tiles)
    pairs = sum(len(tile.queries) * len(tile.keys) for tile in found.tiles)
    assert pairs / prod(LARGE) ** 2 == pytest.approx(density(p.SlidingTile(frames=4, tile=(1, 8, 8)), LARGE))


class Sizes(TorchDispatchMode):
    """The largest tensor that any operator gives, in bytes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, torch.Tensor) and one._base is None:
                self.largest = max(self.largest, one.numel() * one.element_size())
        return out


@pytest.mark.parametrize("engine", engine_registry.names())
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_scratch_is_bounded(pattern, engine, monkeypatch):
    """No tensor of a call is larger than the stated scratch or than a copy of the inputs; L x L would be 3 times it."""
    bound = 1 << 20
    monkeypatch.setattr(engines, "THREAD_BYTES", bound)
    video_span = place_of((12, 16, 16), 7)
    tensors = draw(video_span, heads=1, kv_heads=1, dim=16)
    runner = first_runner(pattern, video_span, describe(*tensors), engine=engine)
    if isinstance(runner, Reason):
        return
    runner(*tensors)
    copy = tensors[0].numel() * 4
    with Sizes() as sizes:
        runner(*tensors)
    assert copy <= sizes.largest <= max(2 * bound, 2 * copy) < video_span.stop**2 / 3


@pytest.mark.parametrize("order", ["raster", "tile"])
@pytest.mark.parametrize("make", [p.TopBlocks, p.MassBlocks, p.AdaptiveBlocks], ids=lambda make: make.name)
def test_a_tail_counts_blocks_by_their_means(make, order):
    """One softmax over the keys that are seen, the means of all other blocks, and the context tokens."""
    grid, before = (9, 8, 8), 3
    pattern, video_span = make(30, order=order, tail=True), place_of(grid, before)
    q, k, v = draw(video_span, batch=2)
    runner = first_runner(pattern, video_span, describe(q, k, v))
    to, back = blocks.block_order(pattern, grid)
    arranged = [t[:, :, before:][:, :, to] for t in (q, k, v)]
    means = [torch.stack([part.double().mean(2) for part in t.split(blocks.KEYS, dim=2)], 2) for t in arranged[1:]]
    lengths = torch.tensor([len(part) for part in torch.arange(prod(grid)).split(blocks.KEYS)]).double()
    chosen = blocks.select_blocks(pattern, *arranged[:2]).repeat_interleave(blocks.QUERIES, dim=2)[:, :, : prod(grid)]
    exact = chosen.repeat_interleave(blocks.KEYS, dim=3)[..., : prod(grid)]
    bias = torch.cat([
        torch.zeros(*exact.shape).double().masked_fill(~exact, -torch.inf),
        lengths.log().expand(chosen.shape).masked_fill(chosen, -torch.inf),
        torch.zeros(*exact.shape[:3], before).double(),
    ], dim=3)  # fmt: skip
    keys, values = (
        torch.cat([t.double(), mean, s[:, :, :before].double()], 2) for t, mean, s in zip(arranged[1:], means, (k, v))
    )
    wanted = scaled_dot_product_attention(arranged[0].double(), keys, values, bias)[:, :, back]
    assert relative_l2(runner(q, k, v)[:, :, before:], wanted) < 1e-6
    without = first_runner(replace(pattern, tail=False), video_span, describe(q, k, v))
    dense = scaled_dot_product_attention(q, k, v)
    assert relative_l2(runner(q, k, v), dense) < relative_l2(without(q, k, v), dense), "the tail brings it no nearer"


def test_plans_are_made_once(monkeypatch):
    video_span, made = place_of((4, 5, 6)), []
    tensors = draw(video_span)
    real = gather_tiles.GATHER_TILES
    counted = replace(real, plan=lambda *args: made.append(args) or real.plan(*args))
    monkeypatch.setattr(engine_registry, "TABLE", (counted,))
    for _ in range(3):
        first_runner(p.Neighbourhood(3, 50, 50), video_span, describe(*tensors))(*tensors)
    assert len(made) == 1
    plan_of_all.cache_clear()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"place": VideoSpan((4, 5, 6), 0, QUERIES)}, "patterns are for self-attention"),
        ({"place": VideoSpan((4, 5, 6), 0, KEYS)}, "patterns are for self-attention"),
        ({"place": place_of((4, 5, 6), 1)}, "120 tokens, the place has 121"),
        ({"kv_len": 77}, "patterns are for self-attention"),
        ({"grad": True}, "no gradient"),
        ({"batch": 0}, "empty tensors"),
    ],
)
def test_refusals(how, reason):
    video_span = how.pop("place", place_of((4, 5, 6)))
    call = replace(describe(*draw(place_of((4, 5, 6)))), **how)
    assert first_runner(p.Spatial(), video_span, call) == reason


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 6, 7)])
def test_a_dense_pattern_is_refused(grid):
    call = describe(*draw(place_of(grid)))
    text = " x ".join(map(str, grid))
    assert first_runner(p.Spatial(), place_of(grid), call) == f"spatial attention of {text} tokens is dense"


def test_reasons_name_each_engine():
    video_span = place_of((4, 5, 6))
    call = describe(*draw(video_span))
    assert first_runner(p.Radial(), video_span, call, engine="folded") == (
        "folded: folds spatial and temporal attention alone"
    )
    assert "engine: 'fast' is not known. Known: " in first_runner(p.Radial(), video_span, call, engine="fast")
    assert "compiles for CUDA" in first_runner(p.Radial(), video_span, call, engine="flex")
    assert first_runner(p.Radial(step=6), video_span, call).engines == ("tiles",)
    assert first_runner(p.TemporalWindow(3), video_span, call).engines == ("slabs",)
    assert first_runner(p.Factorised(weight=0.5), video_span, call).engines == ("folded", "folded")


def test_flop_ratio_of_a_runner():
    video_span = place_of((4, 5, 6), 30)
    call = describe(*draw(video_span))
    assert first_runner(p.Spatial(), video_span, call).flop_ratio == pytest.approx(
        flop_ratio(p.Spatial(), (4, 5, 6), 30)
    )
    assert first_runner(p.MassBlocks(), video_span, call).flop_ratio is None
    # A high threshold sees less, not all.
    assert first_runner(p.AdaptiveBlocks(100.0), video_span, call).engines == ("blocks",)
