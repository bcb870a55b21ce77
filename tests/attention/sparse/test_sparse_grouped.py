"""Keys that several heads share: an engine that takes them so gets them so, all others get a copy for each head.

The engine here is a stand-in for this pack's kernel, which needs a GPU; tests/kernel/triton_patterns.py runs that one
in Triton's interpreter with grouped heads.
"""

from __future__ import annotations

from dataclasses import replace

import pattern_truth
import pytest
import torch
import torch.nn.functional as F
from video_calls import draw, first_runner, place_of

from attention import patterns as p
from attention import sparse
from attention.core.geometry import describe
from attention.core.reference import relative_l2
from attention.core.tensor_layout import expand_kv
from attention.patterns.blocks import KEYS, QUERIES, pool, select_blocks, select_pooled
from attention.sparse.engine import Task
from attention.sparse.gather_blocks import GATHER_BLOCKS
from attention.sparse.runner import Runner, dense_attention

GRID, HEADS, KV_HEADS = (5, 8, 16), 6, 2
PLACE = place_of(GRID, 9, 4)
PATTERNS = (p.TopBlocks(30), p.TopBlocks(40, tail=True, by_heads=(40, 10)), p.MassBlocks(50))


class Grouped:
    """Takes grouped keys, and repeats them where nobody counts."""

    def __init__(self):
        self.given = None

    def __call__(self, video, context_kv, scale, plan, hold):
        self.given = video, context_kv
        heads = video[0].shape[1]
        return GATHER_BLOCKS.run(
            (video[0], *expand_kv(*video[1:], heads)), expand_kv(*context_kv, heads), scale, plan, hold
        )


def runner(pattern, engine) -> Runner:
    return Runner(PLACE, ((1.0, Task(pattern, PLACE), engine),))


@pytest.fixture
def copies(monkeypatch) -> list:
    made = []
    monkeypatch.setattr(
        "attention.sparse.runner.expand_kv", lambda k, v, heads: made.append(1) or expand_kv(k, v, heads)
    )
    return made


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_no_copy_for_an_engine_that_takes_groups(pattern, copies):
    run, (q, k, v) = Grouped(), draw(PLACE, heads=HEADS, kv_heads=KV_HEADS)
    out = runner(pattern, replace(GATHER_BLOCKS, run=run, gqa=True))(q, k, v)
    (_, *given), context_kv = run.given
    # The video's keys are the caller's own memory; of the few others there is a copy of each head that there is.
    assert [t.data_ptr() for t in given] == [t[:, :, PLACE.start :].data_ptr() for t in (k, v)]
    assert {t.shape[1] for t in (*given, *context_kv)} == {KV_HEADS} and copies == []
    assert relative_l2(out, runner(pattern, GATHER_BLOCKS)(q, *expand_kv(k, v, HEADS))) < 1e-6
    if not pattern.tail:
        assert relative_l2(out, pattern_truth.attention(pattern, PLACE, q, k, v)) < 1e-6


@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_all_others_give_what_repeated_keys_give(pattern, copies):
    q, k, v = draw(PLACE, heads=HEADS, kv_heads=KV_HEADS)
    run = runner(pattern, GATHER_BLOCKS)
    assert torch.equal(run(q, k, v), run(q, *expand_kv(k, v, HEADS))) and len(copies) == 2


def test_one_engine_of_two_that_takes_no_groups(copies):
    """A Runner of several parts has one set of keys."""
    run, (q, k, v) = Grouped(), draw(PLACE, heads=HEADS, kv_heads=KV_HEADS)
    one, other = (Task(pattern, PLACE) for pattern in PATTERNS[::2])
    both = Runner(PLACE, ((0.5, one, replace(GATHER_BLOCKS, run=run, gqa=True)), (0.5, other, GATHER_BLOCKS)))
    wanted = sum(0.5 * pattern_truth.attention(pattern, PLACE, q, k, v) for pattern in PATTERNS[::2])
    assert relative_l2(both(q, k, v), wanted) < 1e-6 and len(copies) == 1


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6])
@pytest.mark.parametrize("pattern", PATTERNS, ids=repr)
def test_each_head_chooses_by_its_own_queries(pattern, kv_heads):
    q, k, _ = draw(place_of((3, 8, 17)), heads=HEADS, kv_heads=kv_heads, batch=2)
    repeated = expand_kv(k, k, HEADS)[0]
    wanted = select_blocks(pattern, q, repeated, 0.3)
    assert torch.equal(select_blocks(pattern, q, k, 0.3), wanted)
    assert torch.equal(select_pooled(pattern, pool(q, QUERIES)[0], *pool(k, KEYS), 0.3), wanted)
    assert not torch.equal(wanted[:, 0], wanted[:, 1]), "heads that choose alike show nothing"


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_other_tokens_attend_to_all(kv_heads, copies):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, length, 16) for n, length in ((HEADS, 5), (kv_heads, 70), (kv_heads, 70)))
    out = dense_attention(q, k, v, 0.3)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, *expand_kv(k, v, HEADS), scale=0.3))
    assert out.shape == q.shape and copies == []


def test_this_pack_s_kernel_takes_groups():
    names = {engine.name for engine in sparse.TABLE if engine.gqa}
    assert names == {engine.name for engine in sparse.TABLE if engine.name.startswith("video attention")} and names
    call = describe(*draw(PLACE, heads=HEADS, kv_heads=KV_HEADS))
    assert not any(engine.gqa for _, _, engine in first_runner(PATTERNS[0], PLACE, call).parts)
