"""Long Video Sparse Attention: what a token sees, in the words of the paper, and how its anchors take turns."""

from __future__ import annotations

from math import ceil, prod
from types import SimpleNamespace

import engines_here
import pattern_truth
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_calls import draw, first_runner, place_of

from attention import patterns as p
from attention import sparse
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2
from attention.core.site import SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.patterns.density import density
from attention.patterns.long_video import MOST_TURNS
from attention.patterns.spec import turns_of
from attention.routing.attention_call import AttentionCall
from attention.routing.decide import decide
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse.runner import forget_engine_plans, plan_of_all

torch.set_num_threads(1)

PATTERNS = st.builds(p.LongVideo, st.integers(1, 40), st.floats(0.1, 100.0), st.booleans())


def seen_by_words(pattern, total: int, place: int) -> list[set[int]]:
    """What each frame sees: anchors, and a window around it that grows on both sides until it has enough others."""
    local = max(1, round(pattern.frames * pattern.window / 100))
    free, anchors = pattern.frames - local - pattern.first_frame, set()
    if free > 0:
        apart = min(ceil(total / free), MOST_TURNS, total)
        anchors = {(place + i * apart) % total for i in range(ceil(total / apart))}
    wanted = max(pattern.frames, len(anchors) + pattern.first_frame + local)
    anchors |= {0} if pattern.first_frame else set()
    found = []
    for frame in range(total):
        seen, reach = set(anchors), 0
        while len(seen) < min(wanted, total):
            for other in (frame - reach, frame + reach):
                if 0 <= other < total and len(seen) < wanted:
                    seen.add(other)
            reach += 1
        found.append(seen)
    return found


@settings(max_examples=80)
@given(PATTERNS, st.integers(1, 90))
def test_a_token_sees_anchors_and_the_nearest_frames(pattern, total):
    turns = pattern.turns((total, 1, 1))
    for place, turn in enumerate(turns):
        seen = pattern_truth.fixed(turn, (total, 1, 1))
        assert [set(row.nonzero().flatten().tolist()) for row in seen] == seen_by_words(pattern, total, place)
        assert seen.diagonal().all(), "itself"
    assert len({turn.on((total, 3, 2)).density for turn in turns}) == 1, "all turns cost the same"
    assert density(pattern, (total, 3, 2)) == pytest.approx(pattern.seen(total) / total)


@settings(max_examples=80)
@given(st.integers(4, 40), st.floats(0.1, 60.0), st.booleans(), st.integers(1, 300))
def test_within_its_turns_everybody_sees_everything(frames, window, first_frame, total):
    pattern = p.LongVideo(frames, window, first_frame)
    turns = pattern.turns((total, 1, 1))
    assert len(turns) <= MOST_TURNS
    assert set().union(*(pattern.anchors(total, turn.place) for turn in turns)) == set(range(total))
    if total <= 60:
        assert torch.stack([pattern_truth.fixed(turn, (total, 1, 1)) for turn in turns]).any(0).all()


def test_a_clip_of_the_trained_length_is_dense():
    pattern = p.LongVideo(21)
    assert all(turn.on((21, 4, 5)).is_dense for turn in pattern.turns((21, 4, 5)))
    found = first_runner(pattern, place_of((21, 2, 2)), describe(*draw(place_of((21, 2, 2)))))
    assert isinstance(found, Reason) and found.endswith("is dense")


def test_blocks_begin_at_turns_of_their_own():
    pattern, grid = p.LongVideo(6), (17, 2, 2)
    turns = pattern.turns(grid)
    assert len(turns) > 2
    for block in range(2 * len(turns)):
        first = block % len(turns)
        assert turns_of(pattern, grid, block) == (*turns[first:], *turns[:first])
    assert turns_of(p.Radial(), grid, 3) == (p.Radial(),)


@pytest.mark.parametrize("combine", [p.Union, p.Intersection])
def test_it_is_no_part_of_another_pattern(combine):
    with pytest.raises(ValueError, match="takes patterns with a fixed mask, got long video"):
        combine((p.Temporal(), p.LongVideo()))


@pytest.mark.parametrize("engine", sparse.TABLE, ids=lambda engine: engine.name)
@pytest.mark.parametrize("grid", [(11, 3, 5), (13, 7, 1)])
def test_every_turn_is_right_on_every_engine(engine, grid):
    """Against float64 attention under its own mask, beside text, for more evaluations than there are turns."""
    pattern, span, clock = p.LongVideo(6, 40), place_of(grid, 3), SimpleNamespace(now=0)
    q, k, v = draw(span, seed=4)
    turns, way = pattern.turns(grid), engines_here.way_of(engine)
    assert len(turns) > 3
    with way.here():
        runner = first_runner(pattern, span, way.told(describe(q, k, v)), engine=engine.name, block=2)
        if isinstance(runner, Reason):
            pytest.skip(runner)
        runner = runner.with_block_cache(lambda: clock.now)
        outs = []
        for clock.now in range(len(turns) + 1):
            outs.append(runner(q, k, v))
            wanted = pattern_truth.attention(turns[(2 + clock.now) % len(turns)], span, q, k, v)
            assert relative_l2(outs[-1], wanted) < 1e-5
    assert torch.equal(outs[0], outs[-1]) and not torch.equal(outs[0], outs[1])


@pytest.mark.parametrize("engine", ["slabs", "tiles"])
def test_plans_are_made_once_for_each_turn(engine):
    """Of many steps and blocks: no more than a pattern has turns."""
    pattern, grid, clock = p.LongVideo(6), (17, 2, 3), SimpleNamespace(now=0)
    span = place_of(grid, 2)
    tensors = draw(span)
    turns = len(pattern.turns(grid))
    forget_engine_plans()
    runners = [first_runner(pattern, span, describe(*tensors), engine=engine, block=block) for block in range(7)]
    runners = [runner.with_block_cache(lambda: clock.now) for runner in runners]
    for clock.now in range(1, 3 * turns):
        for runner in runners:
            runner(*tensors)
    assert plan_of_all.cache_info().misses == plan_of_all.cache_info().currsize == turns
    forget_engine_plans()


def test_steps_of_a_run_take_turns_in_one_decision():
    """As the router runs a site: the same decision for all steps, another mask in each."""
    pattern, grid = p.LongVideo(5), (12, 2, 3)
    span, stats = place_of(grid, 3), RunStats()
    tensors, turns = draw(span), pattern.turns(grid)
    options = {SITE: AttentionSite("", "self", 1), CONTEXT: StepContext(stats, tokens=Tokens(grid, (Span("text", 3),)))}
    call = AttentionCall(None, *tensors, 2, split_in=True, kw={"transformer_options": options})
    decision = decide(call, (Rule("", shape=Shape(pattern)),), (True,), "host", stats)
    assert decision.used.startswith("long video (")
    for step in range(1, len(turns) + 2):
        stats.begin()
        wanted = pattern_truth.attention(turns[(1 + step) % len(turns)], span, *tensors)
        assert relative_l2(decision.kernel(*tensors), wanted) < 1e-5
    assert prod(grid) == span.stop - span.start
