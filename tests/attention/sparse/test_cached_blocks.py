"""Choices of key blocks that are kept for some steps: when they are made anew, and that no run sees another's."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from video_calls import draw, first_runner, place_of

from attention import patterns as p
from attention.core.geometry import describe
from attention.core.site import SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.routing.attention_call import AttentionCall
from attention.routing.decide import decide
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse import gather_blocks
from attention.sparse.cached_blocks import CachedBlocks, Overlap

GRID = (4, 8, 9)


def test_made_again_every_n_evaluations():
    """Two calls an evaluation, kept apart by their order; a third one in one evaluation is new."""
    clock, made = SimpleNamespace(now=0), []
    held = CachedBlocks(3, lambda: clock.now)
    seen = []
    for clock.now in range(1, 8):
        for name in ("positive", "negative") if clock.now != 3 else ("positive", "negative", "other"):
            seen.append(held(lambda name=name: made.append((clock.now, name)) or made[-1]))
    assert made == [
        (1, "positive"), (1, "negative"), (3, "other"), (4, "positive"), (4, "negative"), (7, "positive"),
        (7, "negative"),
    ]  # fmt: skip
    assert seen[2:4] == made[:2] and seen[-2:] == made[-2:]


def test_nobody_counts():
    """Outside of a run nothing tells steps apart, so nothing is kept."""
    held = CachedBlocks(5, lambda: 0)
    assert [held(lambda i=i: i) for i in range(3)] == [0, 1, 2] and not held.cached


def selections(monkeypatch):
    """A list that grows with every choice of blocks."""
    made, real = [], gather_blocks.select_blocks
    monkeypatch.setattr(gather_blocks, "select_blocks", lambda *args: made.append(args[1]) or real(*args))
    return made


def test_a_runner_holds_only_where_its_pattern_says_so():
    video_span = place_of(GRID)
    call = describe(*draw(video_span))
    once = first_runner(p.TopBlocks(), video_span, call)
    assert once.with_block_cache(lambda: 1) is once
    held = first_runner(p.TopBlocks(refresh=2), video_span, call)
    assert held.with_block_cache(lambda: 1) is not held and held.with_block_cache(lambda: 1) == held


def sampled(stats, tensors, steps, refresh=2):
    """Outputs of one site over some steps, as the router would run it."""
    tokens = Tokens(GRID, (Span("text", 3),))
    rule = Rule("", shape=Shape(p.TopBlocks(30, refresh=refresh), "blocks"))
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(stats, tokens=tokens)}
    call = AttentionCall(None, *tensors[0], 2, split_in=True, kw={"transformer_options": options})
    decision = decide(call, (rule,), (True,), "host", stats)
    assert decision.kernel is not None, decision.unshaped
    outputs = []
    for step in range(steps):
        stats.begin()
        outputs.append(decision.kernel(*tensors[step]))
    return outputs


def test_a_run_keeps_what_it_chose_and_no_other_sees_it(monkeypatch):
    made = selections(monkeypatch)
    video_span = place_of(GRID, 3)
    tensors = [draw(video_span, seed=step) for step in range(4)]
    fresh = sampled(RunStats(), tensors, 4, refresh=1)
    assert len(made) == 4
    held = sampled(RunStats(), tensors, 4)
    assert len(made) == 6
    again = sampled(RunStats(), tensors, 4)
    assert len(made) == 8 and all(map(torch.equal, held, again))
    # A step that chooses is what it is without keeping; one that does not is near it and not the same.
    assert [torch.equal(a, b) for a, b in zip(fresh, held)] == [True, False, True, False]


def test_a_choice_stands_while_it_holds_enough_of_a_new_one():
    """Beyond `refresh`, by what is measured: 8 of 10 blocks alike, then 6, and the new choice stands from there."""
    clock, made = SimpleNamespace(now=0), []

    def drifted(steps):
        chosen = torch.zeros(1, 1, 1, 30, dtype=torch.bool)
        chosen[..., 2 * steps : 2 * steps + 10] = True
        return chosen

    for bound, expected in ((0.7, [1, 4, 6, 8]), (0.5, [1, 5, 8]), (1.0, [1, 3, 5, 7]), (0.01, [1, 7])):
        made.clear()
        held = CachedBlocks(2, lambda: clock.now, bound)
        # The first two steps stand by `refresh`; in the next ones the choice has drifted by two blocks a step.
        for clock.now in range(1, 9):
            at = max(0, clock.now - 2)
            held(lambda: made.append(clock.now), lambda at=at: drifted(at))
        assert made == expected, bound


def test_an_overlap_is_of_the_new_choice():
    kept, new = (torch.tensor([[[[*bits]]]], dtype=torch.bool) for bits in ((1, 1, 1, 0), (0, 1, 1, 1)))
    assert Overlap(kept, new).share == 2 / 3 or abs(Overlap(kept, new).share - 2 / 3) < 1e-6
    assert Overlap(kept, torch.zeros_like(kept)).share == 0.0
    # Of another shape it tells nothing: selected anew.
    clock, made = SimpleNamespace(now=1), []
    held = CachedBlocks(1, lambda: clock.now, 0.1)
    held(lambda: made.append(1), lambda: kept)
    clock.now = 2
    held(lambda: made.append(2), lambda: kept[..., :2])
    assert made == [1, 2]


def test_a_sample_is_what_all_blocks_of_queries_choose():
    q, k = (torch.randn(2, 3, 128 * 20 + 17, 16, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    for pattern in (p.TopBlocks(20.0), p.MassBlocks(50.0), p.AdaptiveBlocks(1.0)):
        whole, some = p.blocks.select_blocks(pattern, q, k), p.blocks.select_sample(pattern, q, k)
        assert torch.equal(some, whole[:, :, :: p.blocks.SAMPLED]) and some.shape[2] == 3


def test_a_run_keeps_its_choice_by_overlap(monkeypatch):
    made = selections(monkeypatch)
    video_span = place_of(GRID, 3)
    tensors = [draw(video_span, seed=0)] * 4 + [draw(video_span, seed=9)]
    tokens, stats = Tokens(GRID, (Span("text", 3),)), RunStats()
    rule = Rule("", shape=Shape(p.TopBlocks(30), "blocks", refresh_overlap=0.95))
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(stats, tokens=tokens)}
    call = AttentionCall(None, *tensors[0], 2, split_in=True, kw={"transformer_options": options})
    decision = decide(call, (rule,), (True,), "host", stats)
    for step in tensors:
        stats.begin()
        decision.kernel(*step)
    assert len(made) == 2
