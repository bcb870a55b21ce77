"""Ranks that fetch only the keys that their queries may see, against trading heads and against float64."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rank_threads import ranks

from attention import patterns
from attention.core.reference import scaled_dot_product_attention
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.parallel.estimate import rows_traded
from attention.parallel.halo import Halo, reached
from attention.parallel.spread import Spread, cut
from attention.patterns.spec import parts_of, relation_of
from attention.routing import halo_call
from attention.routing.compiled_op import OPTIONS
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT
from attention.sparse.runner import Runner

GRID = (12, 4, 5)
NEAR = patterns.TemporalWindow(frames=3)


def mask_of(pattern, grid):
    every = torch.arange(prod(grid))
    masks = [relation_of(part, grid).mask_mod(0, 0, every[:, None], every[None]) for _, part in parts_of(pattern, 0)]
    assert len(masks) == 1
    return masks[0].expand(len(every), len(every))


@given(st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 6)), st.data())
@settings(deadline=None)
def test_nothing_that_is_seen_is_missed(grid, data):
    pattern = data.draw(st.sampled_from([
        NEAR, patterns.Spatial(), patterns.Temporal(), patterns.Neighbourhood(3, 50.0, 40.0),
        patterns.SlidingTile(2, 50.0, 50.0, (2, 2, 2)), patterns.Radial(),
    ]))  # fmt: skip
    first = data.draw(st.integers(0, prod(grid) - 1))
    last = data.draw(st.integers(first + 1, prod(grid)))
    seen = reached(relation_of(pattern, grid), first, last)
    assert not (mask_of(pattern, grid)[first:last].any(0) & ~seen).any()


def test_a_window_of_frames_reaches_its_frames_and_no_more():
    seen = reached(relation_of(NEAR, GRID), 4 * 20, 6 * 20).view(GRID)
    assert seen[3:7].all() and not seen[:3].any() and not seen[7:].any()
    halo = Halo(Spread((80, 80, 80)), (relation_of(NEAR, GRID),))
    # The one in the middle hands a frame to each side.
    assert halo.most == 40


def test_blocks_that_see_alike_share_one():
    """Of 40 blocks each would hold the numbers of all tokens that are handed over."""
    spread = Spread((80, 80, 80))
    found = {id(halo_call._halo(NEAR, GRID, block, spread)) for block in range(40)}
    assert len(found) == 1
    wider = halo_call._halo(patterns.TemporalWindow(frames=5), GRID, 0, spread)
    assert wider.most == 80 and id(wider) not in found
    # Radial's blocks take turns at what they see, of two kinds: two of them.
    kinds = {tuple(parts_of(patterns.Radial(), block)) for block in range(8)}
    assert len({id(halo_call._halo(patterns.Radial(), GRID, block, spread)) for block in range(8)}) == len(kinds)


def asked(peers, tensors, spread, rule, seen, tokens=None, times=1):
    """The rank's rows of a self-attention through a router with a rule, and who counted."""
    stats, heads = RunStats(), tensors[0].shape[1]
    context = stats.context.but(share=peers.share(sum(spread.sizes), spread.before), tokens=tokens or Tokens(GRID))
    options = {SITE: AttentionSite("Made up", SELF, 0, heads=heads), CONTEXT: context}

    def host(q, k, v, heads, mask=None, **kw):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)

    router, local = Router((Rule("sdpa math"), rule)), [spread.part(t, peers.rank, 2) for t in tensors]
    for _ in range(times):
        out = router(host, *local, heads, skip_reshape=True, skip_output_reshape=True, **{OPTIONS: options})
    seen[peers.rank] = (peers.halos, peers.calls, peers.sent, stats)
    return out


def tensors_of(grid, heads=4, key_heads=4, dim=8):
    random = torch.Generator().manual_seed(5)
    shapes = [(2, heads, prod(grid), dim)] + [(2, key_heads, prod(grid), dim)] * 2
    return [torch.randn(shape, generator=random) for shape in shapes]


def check(grid, pattern, size, weights=None, **more):
    tensors, seen = tensors_of(grid, **more), {}
    spread = Spread(cut(prod(grid), weights or [1.0] * size))
    k, v = (t.repeat_interleave(tensors[0].shape[1] // t.shape[1], 1).double() for t in tensors[1:])
    truth = scaled_dot_product_attention(tensors[0].double(), k, v, mask=mask_of(pattern, grid)[None, None])
    rule = Rule(shape=Shape(pattern))
    found = ranks(size, lambda peers: asked(peers, tensors, spread, rule, seen, Tokens(grid)), weights)
    for rank, out in enumerate(found):
        mine = spread.part(truth, rank, 2)
        assert out.shape == mine.shape and (out.double() - mine).norm() <= 1e-5 * mine.norm()
    return seen, spread


@pytest.mark.parametrize("size", [2, 3, 4])
def test_windows_of_frames_are_fetched_and_exact(size):
    seen, spread = check(GRID, NEAR, size)
    whole = rows_traded(spread, (4 // size,) * size if 4 % size == 0 else (2, 1, 1), (4 // size,) * size)
    for halos, calls, sent, stats in seen.values():
        assert (halos, calls) == (1, 1)
        # k and v of a frame to each neighbour, in float32, batch 2, and one mark.
        assert sent <= 2 * 2 * 40 * 4 * 8 * 4 + 2 * size
        ((_, decision),) = stats.counted()
        assert decision.calls == 1 and decision.used.startswith("temporal window (")
    assert size != 2 or max(sent for _, _, sent, _ in seen.values()) < whole * 8 * 4 * 2


@given(
    st.tuples(st.integers(4, 9), st.integers(1, 3), st.integers(1, 4)), st.integers(2, 4), st.integers(1, 5),
    st.booleans(), st.sampled_from([(4, 4), (4, 2), (5, 5)]),
)  # fmt: skip
@example((4, 1, 1), 4, 1, True, (4, 4))
@settings(max_examples=25, deadline=None)
def test_any_grid_window_and_shares(grid, size, frames, uneven, heads):
    size = min(size, heads[1])
    weights = [1.0 + uneven * rank for rank in range(size)]
    check(grid, patterns.TemporalWindow(frames), size, weights, heads=heads[0], key_heads=heads[1])


def test_what_reaches_everything_trades_heads():
    seen, _ = check((6, 3, 4), patterns.Temporal(), 2)
    assert all(halos == 0 and calls == 1 for halos, calls, *_ in seen.values())


@pytest.mark.parametrize("what", ["text in front", "a reference behind", "strength", "timing", "a mask that follows"])
def test_what_wants_more_than_its_keys_trades_heads(what):
    from attention.guidance.strength import Strength

    size, tensors, seen, rule = 2, tensors_of(GRID), {}, Rule(shape=Shape(NEAR), timing=what == "timing")
    spread, tokens = Spread((120, 120)), Tokens(GRID)
    if what == "text in front":
        spread, tokens = Spread((119, 118), 3), Tokens((237, 1, 1), prefix=(Span("text", 3),))
    if what == "a reference behind":
        tokens = Tokens((11, 4, 5), suffix=(Span("reference", 20),))
    if what == "a mask that follows":
        rule = Rule(shape=Shape(patterns.TopBlocks(30.0)))
    extra = (Rule(strength=Strength(0.9)),) if what == "strength" else ()
    made = {}

    def work(peers):
        halo = halo_call._rule(Router((rule, *extra)), AttentionSite("", SELF, 0), RunStats().context)
        made[peers.rank] = halo
        return asked(peers, tensors, spread, rule, seen, tokens) if not extra else None

    ranks(size, work)
    if extra or what == "timing":
        assert made == {0: None, 1: None}
    assert all(halos == 0 and calls == 1 for halos, calls, *_ in seen.values())


@pytest.mark.parametrize("how", ["no such kernel", "NaN or Inf"])
def test_a_kernel_that_fails_on_one_rank_lets_all_trade_heads(how, monkeypatch):
    """And so they do in every later call of its kind."""
    tensors, spread, seen, tried = tensors_of(GRID), Spread((120, 120)), {}, []
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask_of(NEAR, GRID)[None, None])
    plain = Runner.kernel

    def failing(self, q, k, v, mask=None, scale=None):
        if self.video_span.part == (120, 240):
            tried.append(1)
            if how == "NaN or Inf":
                return torch.full_like(q, float("nan"))
            raise RuntimeError(how)
        return plain(self, q, k, v, mask, scale)

    monkeypatch.setattr(Runner, "kernel", failing)
    rule = Rule(shape=Shape(NEAR, engine="slabs"))
    found = ranks(2, lambda peers: asked(peers, tensors, spread, rule, seen, times=2))
    for rank, out in enumerate(found):
        mine = spread.part(truth, rank, 2)
        assert (out.double() - mine).norm() / mine.norm() < 1e-5
    assert len(tried) == 1 and all((halos, calls) == (0, 2) for halos, calls, *_ in seen.values())
    assert any(how in note for note in seen[1][3].notes)


def test_keys_that_were_not_fetched_are_missed(monkeypatch):
    """The control: were the halo a frame too narrow, the tests above would see it."""
    monkeypatch.setattr(halo_call, "_halo", lambda pattern, grid, block, spread: Halo(
        spread, (relation_of(patterns.Spatial(), grid),)
    ))  # fmt: skip
    with pytest.raises(AssertionError):
        check(GRID, NEAR, 2)
