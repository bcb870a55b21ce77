"""Patterns on our Triton kernel: in Triton's interpreter against the reference, the order they are cut in, refusals."""

from __future__ import annotations

import importlib.util
import secrets
from dataclasses import replace

import interpreted
import pytest
import torch
from triton_cases import HALF
from video_calls import LARGE, PATTERNS, draw, first_runner, place_of

from attention import patterns as p
from attention import sparse
from attention.backends import registry
from attention.core.geometry import describe
from attention.core.site import SITE, AttentionSite
from attention.core.tokens import Tokens
from attention.patterns.blocks import select_blocks
from attention.patterns.density import density
from attention.patterns.spec import relation_of
from attention.routing.attention_call import AttentionCall
from attention.routing.decide import decide
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse import own_triton
from attention.sparse.engine import Task

NAMES = tuple(engine.name for engine in sparse.TABLE if engine.plan is own_triton.plan)
CPU = torch.device("cpu")


def test_every_pattern_in_the_interpreter():
    """On every engine of this kernel, each within what its row of the backends promises."""
    seed = secrets.randbelow(1 << 30)
    results = interpreted.run("triton_patterns.py", given=seed)
    cases = results["cases"]
    wrong = [one for one in cases if not one["error"] < registry.get(one["engine"]).promise or not one["unchanged"]]
    assert not wrong and results["again"], f"seed {seed}"
    assert {one["engine"] for one in cases} == set(NAMES) and {one["row"] for one in cases} == {r.name for r in p.TABLE}
    coarse = [one["error"] for one in cases if not registry.get(one["engine"]).limits.exact]
    assert sorted(coarse)[len(coarse) // 2] > HALF, "INT8 that is as exact as halves is not INT8"


def on_gpu(video_span, **how):
    call = describe(*draw(video_span, dim=64))
    return replace(call, **{"device": "cuda", "dtype": torch.bfloat16, "capability": (9, 0), **how})


@pytest.mark.parametrize("name", NAMES)
def test_engine_by_name(name):
    video_span = place_of((4, 6, 6), 3)
    if importlib.util.find_spec("triton") is None:
        assert "pip install triton" in first_runner(p.Radial(step=1), video_span, on_gpu(video_span), engine=name)
        return
    for pattern in (p.Radial(step=1), p.TopBlocks(tail=True), p.Factorised(weight=0.5)):
        assert set(first_runner(pattern, video_span, on_gpu(video_span), engine=name).engines) == {name}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"device": "cpu", "capability": None}, "needs cuda, the tensors are on cpu"),
        ({"head_dim": 160}, "head size 160, takes 8 to 128 in steps of 8"),
        ({"dtype": torch.float32}, "dtype float32, takes float16, bfloat16"),
        ({"capability": (7, 5)}, "needs compute capability 8.{}, this GPU has 7.5"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_refusals(name, how, reason, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: None)
    video_span, wanted = place_of((4, 6, 6), 3), reason.format(9 if "float8" in name else 0)
    assert first_runner(p.Radial(step=1), video_span, on_gpu(video_span, **how), engine=name) == f"{name}: {wanted}"


def test_auto_takes_what_was_measured():
    """The engine comes after all that any GPU has, until it is measured on one."""
    video_span = place_of((8, 6, 6), 3)
    for pattern in PATTERNS:
        assert not set(first_runner(pattern, video_span, on_gpu(video_span)).engines) & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_render_on_the_cpu_goes_on_and_says_why(name):
    video_span = place_of((4, 6, 6))
    q, k, v = draw(video_span, dim=64, dtype=torch.float16)
    rule = Rule("", shape=Shape(p.Radial(step=1), name))
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(RunStats(), tokens=Tokens(video_span.grid))}
    call = AttentionCall(None, q, k, v, 2, split_in=True, kw={"transformer_options": options})
    decision = decide(call, (rule,), (True,), "host", RunStats())
    reason = registry.why_not(name) or "needs cuda, the tensors are on cpu"
    assert decision.unshaped == ("radial", f"{name}: {reason}") and decision.kernel is None


def planned(pattern, grid=LARGE, context_tokens=0) -> own_triton.EnginePlan:
    return own_triton.INT8.plan(Task(pattern, place_of(grid, context_tokens)), CPU, torch.float16)


@pytest.mark.parametrize(
    ("pattern", "share"),
    [(p.Spatial(), 1.4), (p.Temporal(), 50), (p.SlidingTile(4, tile=(1, 8, 8)), 1.25), (p.Radial(step=16), 2.5)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_tokens_that_see_each_other_share_tiles(pattern, share):
    """Pairs in the tiles that run, over the pairs that must. Temporal sees 5 keys of a tile, in raster order 1."""
    made = planned(pattern).lists
    tiles = made.count[..., 1].sum().item() * own_triton.QUERIES * own_triton.KEYS
    assert tiles < share * density(pattern, LARGE) * (LARGE[0] * LARGE[1] * LARGE[2]) ** 2


def test_the_lists_count_for_themselves():
    """What `cost` estimates from some rows is what the lists of all rows then have."""
    relation = relation_of(p.Radial(step=8), LARGE)
    for to in own_triton.candidate_orders(LARGE):
        made = own_triton.of_mask(*own_triton.with_context(relation, to, 0), CPU)
        whole, every = made.count.flatten(0, 2).double().sum(0).tolist()
        rows = len(range(0, made.count.shape[2], -(-made.count.shape[2] // own_triton.SAMPLED_ROWS)))
        real = (whole + own_triton.PARTIAL_TILE_COST * (every - whole)) * rows / made.count.shape[2]
        assert own_triton.tile_cost(relation, to) == pytest.approx(real, rel=0.25)


def test_chosen_blocks_wait_for_no_gpu():
    """With a known number of blocks nothing is asked of the tensors: the lists are as wide as they can get."""
    q, k = (torch.randn(1, 2, 700, 16) for _ in "qk")
    for context_tokens in (0, 64, 70):
        kept = select_blocks(p.TopBlocks(30), q, k)
        made = own_triton.lists_of_selection(p.TopBlocks(30), kept, 700, context_tokens)
        ahead = -(-context_tokens // own_triton.KEYS)
        assert made.index.shape[-1] == min(4 + 2, 11) + ahead and made.kv_len == ahead * own_triton.KEYS + 700
        assert made.count[..., 1].equal(kept.sum(-1).int() + ahead)


def test_tokens_in_the_pattern_s_order_stay():
    assert planned(p.TopBlocks(order="raster")).permutation is None
    assert planned(p.TopBlocks()).permutation is not None
    assert planned(p.Spatial()).permutation is None
