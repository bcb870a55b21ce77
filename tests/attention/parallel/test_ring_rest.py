"""More ranks than heads: what looks at a call as a whole, ranks that are processes, and ranks that fail."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from rank_threads import ranks
from test_group import together
from test_halo import GRID, NEAR, asked, tensors_of
from test_shared_call import answered, made
from test_shared_call import mask_of as plain_mask

from attention import patterns
from attention.core.reference import scaled_dot_product_attention
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Span, Tokens
from attention.guidance.strength import Strength
from attention.parallel import ring
from attention.parallel.peers import Broken
from attention.parallel.ring import ALL, AROUND, KEYS
from attention.parallel.spread import Spread, cut
from attention.routing import ring_call
from attention.routing.compiled_op import OPTIONS
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

FAR, SDPA = 1e-5, (Rule("sdpa"),)


def far(out, truth) -> float:
    return ((out.double() - truth.double()).norm() / truth.double().norm()).item()


def alone(tensors, rules, tokens, previous=None):
    """What one rank gives."""
    stats, heads = RunStats(), tensors[0].shape[1]
    options = {SITE: AttentionSite("", SELF, 0, heads=heads), CONTEXT: stats.context.but(tokens=tokens)}
    router = Router(rules, previous)
    return router(plain, *tensors, heads, skip_reshape=True, skip_output_reshape=True, **{OPTIONS: options})


def plain(q, k, v, heads, mask=None, **kw):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)


@pytest.mark.parametrize("text", [0, 7])
@pytest.mark.parametrize(
    "pattern", [patterns.TopBlocks(30.0), patterns.Radial(), patterns.LongVideo(frames=3), NEAR], ids=str
)
@pytest.mark.parametrize(("size", "heads"), [(2, 1), (3, 2), (4, 2)])
def test_patterns(size, heads, pattern, text):
    """What fetches by what it sees needs no groups; all else sees the whole call, whatever runs it."""
    tokens = Tokens(GRID, prefix=(Span("text", text),) if text else ())
    random = torch.Generator().manual_seed(5)
    tensors = [torch.randn(2, heads, 240 + text, 8, generator=random) for _ in range(3)]
    rule, told = Rule(shape=Shape(pattern, min_tokens=0)), {}
    truth = alone(tensors, (Rule("sdpa math"), rule), tokens)
    spread = Spread(cut(240, [1.0] * size), text)

    def work(peers):
        out = asked(peers, tensors, spread, rule, told, tokens)
        return out, dict(peers.rounds)

    for rank, (out, rounds) in enumerate(ranks(size, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR
        halos, calls, _, stats = told[rank]
        assert calls == 1 and rounds == ({} if halos else {ALL: 1})
        assert {d.used.split(" (")[0] for _, d in stats.counted()} == {pattern.name}
        assert halos == (pattern is NEAR and not text) or pattern is not NEAR


@pytest.mark.parametrize(
    ("strength", "way"), [(Strength(0.8), KEYS), (Strength(cross_frame=9.0), ALL), (Strength(0.8, 9.0), ALL)]
)
@pytest.mark.parametrize(("size", "heads"), [(2, 1), (4, 2), (6, 3)])
def test_strength(size, heads, strength, way):
    tensors, rule = tensors_of(GRID, heads, heads), Rule(strength=strength)
    truth = alone(tensors, (Rule("sdpa math"), rule), Tokens(GRID))
    assert far(truth, alone(tensors, (Rule("sdpa math"),), Tokens(GRID))) > 1e-3
    spread = Spread(cut(240, [1.0] * size))

    def work(peers):
        return asked(peers, tensors, spread, rule, {}), dict(peers.rounds), peers.carried[way], len(peers.heads)

    for rank, (out, rounds, carried, near) in enumerate(ranks(size, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR and rounds == {way: 1}
        # q too where all is gathered; batch 2, heads of 8 numbers in float32; each to the other groups.
        groups = size // near
        assert carried == (3 if way == ALL else 2) * 2 * heads // near * 8 * 4 * 240 // groups * (groups - 1)


def test_another_pack_s_attention_sees_the_whole_call():
    """It may look for as many queries as keys."""
    tensors, spread, seen = made(1, 1, 1, 41, 41), Spread((21, 20)), []

    def previous(func, q, k, v, heads, **kw):
        seen.append((q.shape[2], k.shape[2]))
        return plain(q, k, v, heads)

    def work(peers):
        share, stats = peers.share(41, 0), RunStats()
        options = {SITE: AttentionSite("", SELF, 0, heads=1), CONTEXT: stats.context.but(share=share)}
        local = [spread.part(t, peers.rank, 2) for t in tensors]
        router = Router((), previous)
        return router(plain, *local, 1, skip_reshape=True, skip_output_reshape=True, **{OPTIONS: options}), peers.rounds

    truth = scaled_dot_product_attention(*(t.double() for t in tensors))
    for rank, (out, rounds) in enumerate(ranks(2, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR and rounds == {ALL: 1}
    assert seen == [(41, 41)] * 2


@pytest.mark.parametrize("backend", ["sdpa", "host default"])
@pytest.mark.parametrize("kind", ["none", "heads"])
@pytest.mark.parametrize(("size", "heads", "key_heads"), [(2, 1, 1), (3, 2, 1), (4, 2, 2), (6, 6, 3), (3, 3, 3)])
def test_ranks_that_are_processes(size, heads, key_heads, kind, backend):
    """As between machines: gloo."""
    tensors, mask, spread = (
        made(1, heads, key_heads, 67, 67),
        plain_mask(kind, heads, 67, 67),
        Spread(cut(62, [1.0] * size), 5),
    )
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)

    def work(peers):
        out, _ = answered(peers, tensors, mask, spread, "both", SELF, heads, (Rule(backend),))
        peers.finish()
        return out, dict(peers.rounds)

    way = AROUND if backend == "sdpa" else KEYS
    for rank, (out, rounds) in enumerate(together(size, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR
        assert rounds == ({} if key_heads >= size else {way: 1})


def test_only_neighbours_trade_heads_where_that_is_asked_for():
    """As many heads as ranks, two machines of two."""
    tensors, spread = made(1, 4, 4, 67, 67), Spread(cut(67, [1.0] * 4))
    truth = scaled_dot_product_attention(*(t.double() for t in tensors))

    def work(peers):
        peers.inner = 2
        out, _ = answered(peers, tensors, None, spread, "both", SELF, 4, SDPA)
        return out, dict(peers.rounds), peers.heads

    for rank, (out, rounds, heads) in enumerate(ranks(4, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR and rounds == {AROUND: 1} and heads == (2, 2)


def test_ranks_of_any_speed_have_the_heads_of_those_that_keys_come_from():
    tensors, spread = made(1, 4, 4, 67, 67), Spread(cut(67, [1.0, 9.0, 9.0, 1.0]))
    truth = scaled_dot_product_attention(*(t.double() for t in tensors))

    def work(peers):
        peers.inner = 2
        out, _ = answered(peers, tensors, None, spread, "both", SELF, 4, SDPA)
        return out, peers.heads

    for rank, (out, heads) in enumerate(ranks(4, work, [1.0, 9.0, 9.0, 1.0])):
        assert far(out, spread.part(truth, rank, 2)) < FAR and heads == (2, 2)


def test_heads_of_a_pattern_keep_their_numbers():
    tokens, tensors = Tokens(GRID), tensors_of(GRID, 4, 4)
    rule = Rule(shape=Shape(patterns.TopBlocks(80.0, by_heads=(80.0, 60.0, 40.0, 20.0)), min_tokens=0))
    truth, spread = alone(tensors, (Rule("sdpa math"), rule), tokens), Spread(cut(240, [1.0] * 6))
    for rank, out in enumerate(ranks(6, lambda peers: asked(peers, tensors, spread, rule, {}, tokens))):
        assert far(out, spread.part(truth, rank, 2)) < FAR


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_that_ends_in_the_ring_ends_all(failing, processes, monkeypatch):
    """By an interrupt or an error, between two of its steps; the others do not wait for their patience to end."""
    tensors, spread = made(1, 1, 1, 67, 67), Spread(cut(67, [1.0] * 3))
    plain_steps, here = ring.Ring.steps, threading.local()

    def steps(self, k, v):
        for n, step in enumerate(plain_steps(self, k, v)):
            if n == 1 and here.rank == failing:
                raise Interrupted("stopped by hand")
            yield step

    monkeypatch.setattr(ring.Ring, "steps", steps)
    begun = time.monotonic()

    def work(peers):
        here.rank = peers.rank
        try:
            answered(peers, tensors, None, spread, "both", SELF, 1, SDPA)
            peers.finish()
        except (Broken, Interrupted) as ended:
            if not processes:
                peers.exchange.abort()
            else:
                peers.leave()
            return str(ended)

    answers = (together if processes else ranks)(3, work)
    assert time.monotonic() - begun < 20
    assert answers.pop(failing) == "stopped by hand"
    said = (
        "another ComfyUI left the run: look there for the reason" if processes else "another GPU stopped in the middle"
    )
    assert all(answer.startswith(said) for answer in answers), answers


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_kernel_that_raises_on_one_rank_is_given_up_by_all(failing, processes, monkeypatch):
    """In the middle of the first round: the keys go on around, then all gather them."""
    tensors, spread, here = made(1, 1, 1, 67, 67), Spread(cut(67, [1.0] * 3)), threading.local()
    truth = scaled_dot_product_attention(*(t.double() for t in tensors))

    def raises(q, k, v, mask, scale):
        # Not the small call by which it is tried, and not at the rank's own keys.
        here.calls += k.shape[2] != 40
        if here.calls == 2 and here.rank == failing:
            raise RuntimeError("no kernel image")
        return ring.written_out(q, k, v, mask, scale)

    monkeypatch.setattr(ring_call, "FUSED", {"cpu": {"sdpa flash": raises}})
    ring_call._attention.cache_clear()

    def work(peers):
        here.rank, here.calls, peers.inner = peers.rank, 0, 1
        out, stats = answered(peers, tensors, None, spread, "both", SELF, 1, SDPA)
        peers.finish()
        return out, dict(peers.rounds), stats.notes, here.calls

    for rank, (out, rounds, notes, calls) in enumerate((together if processes else ranks)(3, work)):
        assert far(out, spread.part(truth, rank, 2)) < FAR and rounds == {KEYS: 1}
        assert calls == (2 if rank == failing else 3)
        said = "Keys could not go around on one of the GPUs, and are gathered instead: RuntimeError: no kernel image."
        assert notes == ([said] if rank == failing else [])
    ring_call._attention.cache_clear()


def test_lengths_that_differ_in_the_ring_are_told():
    """One rank's tokens are not those that the others think it has."""
    tensors = made(1, 1, 1, 67, 67)

    def work(peers):
        spread = Spread((40, 27) if peers.rank else (34, 33))
        peers._shares[67, 0] = ring.Share(peers, spread)
        return answered(peers, tensors, None, spread, "both", SELF, 1, SDPA)

    with pytest.raises(Broken, match="were due|stopped in the middle"):
        ranks(2, work)


@pytest.mark.parametrize("name", ring_call.FUSED["cuda"])
def test_operators_of_gpus_take_what_they_are_given(name):
    """Not run, for want of a GPU: torch's own description of them, which knows arguments and shapes."""
    q, k = (torch.empty(2, 3, length, 64, dtype=torch.bfloat16, device="meta") for length in (41, 70))
    masks = (None,) if name == "sdpa flash" else (None, torch.ones(1, 1, 41, 70, dtype=torch.bool, device="meta"))
    for mask in masks:
        out, lse = ring_call._seeing(ring_call.FUSED["cuda"][name])(q, k, k, mask, 0.2)
        assert out.shape == q.shape and lse.shape == (2, 3, 41) and lse.dtype == torch.float32


def test_kernels_are_asked_once(monkeypatch):
    ring_call._attention.cache_clear()
    asked_for, plain_right = [], ring_call._is_right
    monkeypatch.setattr(ring_call, "_is_right", lambda *given: asked_for.append(given) or plain_right(*given))
    tensors, spread = made(1, 1, 1, 40, 40), Spread((20, 20))
    for _ in range(3):
        ranks(2, lambda peers: answered(peers, tensors, None, spread, "both", SELF, 1, SDPA))
    # Two threads may ask at the same time.
    assert 1 <= len(asked_for) <= 2
