"""Adapters of other people's kernels. comfy-kitchen's run on GPUs alone: here stand-ins with its documented signatures.

What a stand-in shows is that the adapter reshapes, reorders, pads and masks as the signature asks, and undoes it: not
that comfy-kitchen computes what its documentation says.
"""

import sys
from dataclasses import replace
from inspect import signature
from math import prod
from types import SimpleNamespace

import pytest
import torch
from engines_here import Sol, na3d
from video_calls import first_runner

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.tokens import BOTH, Span, VideoSpan
from attention.patterns.spec import relation_of
from attention.sparse import flex, kitchen
from attention.sparse.engine import Task
from attention.sparse.runner import plan_of_all

torch.set_num_threads(1)
GRID = (3, 5, 8)


def place_of(before=0, after=0, grid=GRID) -> VideoSpan:
    return VideoSpan(grid, before, BOTH, (Span("text", before),), (Span("audio", after),))


def draw(video_span, dim, length=0):
    torch.manual_seed(0)
    return torch.randn(3, 2, 2, video_span.stop + sum(span.length for span in video_span.after), dim).unbind()


def on_gpu(tensors):
    return replace(describe(*tensors), device="cuda", dtype=torch.bfloat16, capability=(9, 0))


@pytest.fixture
def stand_ins(monkeypatch):
    made = {"na3d": na3d, "sol_attn": Sol()}
    monkeypatch.setattr(kitchen, "load", made.get)
    plan_of_all.cache_clear()
    yield made
    plan_of_all.cache_clear()


@pytest.mark.parametrize(
    "pattern", [p.Neighbourhood(3, 40, 60), p.Neighbourhood(2, 100, 1), p.Neighbourhood(99, 50, 50)]
)
def test_na3d(stand_ins, pattern):
    tensors = draw(place_of(), 16)
    runner = first_runner(pattern, place_of(), on_gpu(tensors))
    assert runner.engines == ("comfy-kitchen na3d",)
    exact = first_runner(pattern, place_of(), describe(*tensors), engine="tiles")
    for scale in (None, 0.3):
        assert relative_l2(runner(*tensors, scale), exact(*tensors, scale)) < 1e-6


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize(
    ("before", "after", "blocks"), [(0, 0, None), (64, 0, [0, 1]), (5, 0, [0, 1]), (3, 70, [0, 2])]
)
def test_sol_attn(stand_ins, before, after, blocks, dim):
    video_span = place_of(before, after)
    tensors = draw(video_span, dim)
    runner = first_runner(p.TopBlocks(keep=25), video_span, on_gpu(tensors))
    assert runner.engines == ("comfy-kitchen sol_attn",)
    for scale in (None, 0.3):
        assert relative_l2(runner(*tensors, scale), scaled_dot_product_attention(*tensors, scale=scale)) < 1e-6
    sol = stand_ins["sol_attn"]
    assert sol.keep == 0.5 and sol.sinks == blocks, "one of two blocks: at least 25 percent"
    assert (sol.bias is None) == ((before + after) % 64 == 0)


def test_sol_attn_is_given_tau(stand_ins):
    tensors = draw(place_of(5), 128)
    runner = first_runner(p.AdaptiveBlocks(1.7), place_of(5), on_gpu(tensors), engine="comfy-kitchen sol_attn")
    runner(*tensors, None)
    assert (stand_ins["sol_attn"].tau, stand_ins["sol_attn"].keep) == (1.7, 0.0)


class Recorder(Sol):
    """A newer stand-in. Its token_aug has a default that no release has, to be told from a number of ours."""

    __signature__ = signature(lambda q, k, v, tau=1.0, token_aug=128: None)

    def __call__(self, *tensors, **given):
        self.given = dict(given)
        given.pop("token_aug")
        return super().__call__(*tensors, **given)


@pytest.mark.parametrize("pattern", [p.TopBlocks(keep=25), p.AdaptiveBlocks(1.7)])
def test_sol_attn_is_given_token_aug_where_it_takes_it(stand_ins, pattern):
    video_span = place_of(5, 3)
    tensors = draw(video_span, 128)
    runner = first_runner(pattern, video_span, on_gpu(tensors), engine="comfy-kitchen sol_attn")
    runner(*tensors, None)  # without one: nothing more is passed, or the stand-in had raised
    taking = Recorder()
    stand_ins["sol_attn"] = taking
    assert relative_l2(runner(*tensors, None), scaled_dot_product_attention(*tensors)) < 1e-6
    assert taking.given["token_aug"] == 128 and taking.given["sink_blocks"] == [0, 1]
    assert "sink_q" not in taking.given, "the rows outside the video are computed elsewhere"
    runner = first_runner(replace(pattern, singles=192), video_span, on_gpu(tensors), engine="comfy-kitchen sol_attn")
    runner(*tensors, None)
    assert taking.given["token_aug"] == 192


@pytest.mark.parametrize("singles, why", [
    (64, "this comfy-kitchen's sol_attn sees no single tokens; update ComfyUI"),
    (100, "100 single tokens, takes a multiple of 64 up to 256"),
    (320, "320 single tokens, takes a multiple of 64 up to 256"),
])  # fmt: skip
def test_sol_attn_that_cannot_see_so_many_single_tokens_says_so(stand_ins, singles, why):
    video_span = place_of(5, 3)
    pattern = p.TopBlocks(keep=25, singles=singles)
    found = first_runner(pattern, video_span, on_gpu(draw(video_span, 128)), engine="comfy-kitchen sol_attn")
    assert isinstance(found, Reason) and str(found) == f"comfy-kitchen sol_attn: {why}"


@pytest.mark.parametrize("keep", [0.1, 1.0, 7.3, 20.0, 25.0, 50.0, 99.9])
@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 100, 1181])
def test_sol_attn_keeps_as_many_blocks_as_the_pattern(keep, blocks):
    """The library rounds a share to a number of blocks between 1 and all but one; the pattern keeps `keep` at least."""
    pattern = p.TopBlocks(keep)
    routed, wanted = kitchen.routing(pattern, blocks), int(pattern.select(torch.rand(blocks), None).sum())
    if wanted == blocks:
        assert routed == {"tau": -1e4}
    else:
        assert 0 < routed["topk_ratio"] < 1 and max(1, round(routed["topk_ratio"] * blocks)) == wanted


@pytest.mark.parametrize(
    ("pattern", "video_span", "how", "engine", "reason"),
    [
        (p.Spatial(), place_of(), {}, "na3d", "runs neighbourhood attention alone"),
        (p.Neighbourhood(), place_of(3), {}, "na3d", "takes no tokens outside the video"),
        (p.Neighbourhood(), place_of(), {"head_dim": 40}, "na3d", "head size 40, takes 16 to 128 in steps of 16"),
        (p.Neighbourhood(), place_of(), {"device": "cpu"}, "na3d", "needs cuda, the tensors are on cpu"),
        (p.Neighbourhood(), place_of(), {"dtype": torch.float32}, "na3d", "dtype float32, takes float16, bfloat16"),
        (p.MassBlocks(), place_of(), {}, "sol_attn", "runs top blocks and adaptive blocks alone"),
        (p.TopBlocks(by_heads=(20, 10)), place_of(), {}, "sol_attn", "keeps one percentage for all heads"),
        (p.TopBlocks(keep=0), place_of(), {}, "sol_attn", "keeps 0 percent, takes more than 0 and less than 100"),
        (p.TopBlocks(), place_of(), {"head_dim": 96}, "sol_attn", "head size 96, takes 64, 128"),
        (p.TopBlocks(), place_of(), {"capability": (7, 5)}, "sol_attn", "needs compute capability 8.0"),
    ],
)
def test_kitchen_refuses(stand_ins, pattern, video_span, how, engine, reason):
    call = replace(on_gpu(draw(video_span, 64)), **how)
    assert (
        first_runner(pattern, video_span, call, engine=f"comfy-kitchen {engine}") == f"comfy-kitchen {engine}: {reason}"
    )


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "comfy-kitchen's sol_attn cannot be loaded"),
        (SimpleNamespace(), "this comfy-kitchen has no sol_attn; update ComfyUI"),
        (SimpleNamespace(sol_attn=print, sol_attn_is_available=lambda: False), "sol_attn cannot run on this GPU"),
    ],
)
def test_kitchen_may_be_missing(monkeypatch, module, reason):
    monkeypatch.setitem(sys.modules, "comfy_kitchen", module)
    kitchen.load.cache_clear()
    tensors = draw(place_of(), 64)
    found = first_runner(p.TopBlocks(), place_of(), on_gpu(tensors), engine="comfy-kitchen sol_attn")
    kitchen.load.cache_clear()
    assert reason in found


@pytest.mark.parametrize(
    "pattern",
    [
        p.Radial(step=16),
        p.Union((p.Spatial(), p.Temporal())),
        p.Neighbourhood(2, 50, 50),
        p.SlidingTile(1, tile=(1, 4, 4)),
    ],
    ids=lambda pattern: pattern.name,
)
def test_block_mask_is_the_mask(pattern):
    """Which blocks FlexAttention skips, masks and runs whole, made without the L x L mask that torch makes."""
    grid, context_tokens = (5, 7, 16), 9
    task = Task(pattern, place_of(context_tokens, 0, grid))
    plan = flex.plan(task, torch.device("cpu"), torch.float32)
    tokens = prod(grid)
    query, key = torch.arange(tokens), torch.arange(tokens + context_tokens)
    seen = plan.mask.mask_mod(0, 0, query[:, None], key[None, :])
    relation = relation_of(pattern, grid)
    raster = relation.mask_mod(0, 0, query[:, None], query[None, :])
    assert seen[plan.inverse][:, :tokens][:, plan.inverse].equal(raster) and seen[:, tokens:].all()
    partial, full = torch.zeros(2, 5, 5, dtype=torch.bool)
    for row in range(5):
        for flags, count, index in (
            (partial, plan.mask.kv_num_blocks, plan.mask.kv_indices),
            (full, plan.mask.full_kv_num_blocks, plan.mask.full_kv_indices),
        ):
            flags[row, index[0, 0, row, : count[0, 0, row]].long()] = True
        for column in range(5):
            block = seen[row * 128 : row * 128 + 128, column * 128 : column * 128 + 128]
            assert bool(full[row, column]) == bool(block.all())
            assert bool(partial[row, column]) == bool(block.any() and not block.all())


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "pattern", [p.Radial(step=16), p.SlidingTile(1, tile=(1, 4, 4))], ids=lambda pattern: pattern.name
)
def test_flex_compiled_on_the_cpu(pattern):
    video_span = place_of(9, 0, (5, 7, 16))
    tensors = draw(video_span, 32)
    runner = first_runner(pattern, video_span, describe(*tensors), engine="flex", compile_on_cpu=True)
    exact = first_runner(pattern, video_span, describe(*tensors), engine="tiles")
    try:
        out = runner(*tensors)
    except torch._inductor.exc.InductorError as error:
        if "compiler" not in str(error).lower():
            raise
        pytest.skip(f"no C++ compiler: {str(error).splitlines()[0]}")
    assert relative_l2(out, exact(*tensors)) < 1e-6
