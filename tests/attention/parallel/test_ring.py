"""More ranks than heads: some trade heads, and keys go around; against float64 of the whole call."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import ranks
from test_shared_call import MASKS, made, mask_of
from test_shared_call import answered as answered_by

from attention.core.reference import scaled_dot_product_attention
from attention.core.site import AUDIO_VIDEO, CROSS, SELF
from attention.parallel import ring
from attention.parallel.ring import AROUND, KEYS, Seen, in_a_row, inner_of, ring_of, written_out
from attention.parallel.spread import Spread, cut, cut_heads
from attention.routing import ring_call
from attention.routing.rules import Rule

FAR, SDPA = 1e-5, (Rule("sdpa"),)


def answered(*given, rules=SDPA, **more):
    return answered_by(*given, rules=rules, **more)


@pytest.mark.parametrize(
    ("most", "heads", "inner"),
    [(2, 1, 1), (2, 2, 2), (3, 2, 1), (4, 3, 2), (4, 4, 4), (6, 4, 3), (6, 5, 3), (6, 1, 1), (16, 12, 8), (1, 9, 1)],
)
def test_as_many_trade_heads_as_divide_and_find_one(most, heads, inner):
    assert inner_of(most, heads) == inner


@pytest.mark.parametrize(
    ("names", "inner"),
    [("a", 1), ("ab", 1), ("aa", 2), ("aabb", 2), ("abab", 1), ("aaab", 1), ("aaabbb", 3), ("aabbbb", 2)],
)
def test_as_many_trade_heads_as_are_on_one_machine(names, inner):
    assert in_a_row(names) == inner


@given(st.integers(1, 30), st.integers(1, 8), st.lists(st.floats(0.01, 50.0), min_size=1, max_size=8))
def test_each_has_a_head_where_there_are_as_many(key_heads, group, weights):
    heads, keys = cut_heads(key_heads * group, key_heads, weights)
    assert sum(keys) == key_heads and sum(heads) == key_heads * group
    assert min(keys) >= 1 or key_heads < len(weights)


def parts_of(q, k, v, mask, ends):
    for first, last in ends:
        some = None if mask is None else mask[..., first:last]
        yield written_out(q, k[:, :, first:last], v[:, :, first:last], some)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(MASKS), st.booleans(), st.randoms())
@settings(deadline=None)
def test_what_is_seen_of_parts_is_what_is_seen_of_all(sizes, kind, blind, order):
    length = sum(sizes)
    (q, k, v), mask = made(2, 3, 3, 7, length), mask_of(kind, 3, 7, length)
    if mask is not None and blind:
        # One query sees nothing of the first part, and one of nothing at all.
        hidden = False if mask.dtype == torch.bool else -torch.inf
        mask = mask.expand(1, mask.shape[1], 7, length).clone()
        mask[:, :, 2, : sizes[0]] = mask[:, :, 4] = hidden
    ends = [(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]
    order.shuffle(ends)
    seen = Seen(q)
    for out, lse in parts_of(q, k, v, mask, ends):
        seen.add(out, lse)
    truth = scaled_dot_product_attention(*(t.double() for t in (q, k, v)), mask=mask)
    assert ((seen.out.double() - truth).norm() / truth.norm()) < FAR


def test_scores_beyond_what_exponentials_stand():
    q, k, v = (t * s for t, s in zip(made(2, 2, 2, 5, 12), (40, 40, 1), strict=True))
    seen = Seen(q)
    for out, lse in parts_of(q, k, v, None, [(0, 5), (5, 12)]):
        seen.add(out, lse)
    truth = scaled_dot_product_attention(*(t.double() for t in (q, k, v)))
    assert ((seen.out.double() - truth).norm() / truth.norm()) < 1e-4
    assert seen.out.isfinite().all()


def test_16_bit_is_joined_in_float32():
    q, k, v = (t.to(torch.bfloat16) for t in made(2, 2, 2, 5, 12))
    seen = Seen(q)
    for out, lse in parts_of(q, k, v, None, [(0, 5), (5, 12)]):
        seen.add(out, lse)
    truth = scaled_dot_product_attention(*(t.double() for t in (q, k, v)))
    assert seen.out.dtype == torch.float32 and ((seen.out.double() - truth).norm() / truth.norm()) < FAR


def test_some_queries_at_a_time(monkeypatch):
    (q, k, v), mask = made(1, 2, 2, 11, 6), mask_of("heads", 2, 11, 6)
    whole = written_out(q, k, v, mask)
    monkeypatch.setattr(ring, "SCRATCH", 100)
    for part, one in zip(written_out(q, k, v, mask), whole, strict=True):
        torch.testing.assert_close(part, one)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_group_s_keys_come_by_once(size):
    """The own ones first, those of the group before next; each rank hands over what it has S - 1 times."""
    spread = Spread(cut(11, [1.0] * size), 2)
    x = torch.arange(13.0).view(1, 1, 13, 1)

    def work(peers):
        peers.inner = 1
        share = peers.share(11, 2)
        mine = spread.part(x, peers.rank, 2)
        found = [
            (g, k.flatten().tolist(), (v - k).unique().item()) for g, k, v in ring_of(share, 9).steps(mine, mine + 1)
        ]
        return found, peers.sent

    for rank, (found, sent) in enumerate(ranks(size, work)):
        assert [g for g, _, _ in found] == [(rank - s) % size for s in range(size)]
        assert all(more == 1 for _, _, more in found)
        whole = sum(sorted(keys for _, keys, _ in found if 0.0 in keys), [])
        assert whole[:2] == [0.0, 1.0]
        assert sorted(sum((keys for _, keys, _ in found), [])) == list(range(13))
        others = 11 - spread.sizes[(rank + 1) % size]
        assert sent == others * 2 * 4


def exact(size, heads, key_heads, length, before, kind, side="both", role=SELF, other=9, rules=None, **more):
    """Relative L2 of all ranks, and what they counted."""
    q_len, kv_len = (length if side != "keys" else other), (length if side != "queries" else other)
    tensors, mask = made(1, heads, key_heads, q_len, kv_len), mask_of(kind, heads, q_len, kv_len)
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)
    spread = Spread(cut(length - before, more.get("weights") or [1.0] * size), before)
    told = {}

    def work(peers):
        out, stats = answered(peers, tensors, mask, spread, side, role, heads, rules=rules or SDPA)
        told[peers.rank] = (peers.rounds, peers.carried, peers.sent, stats, peers.heads)
        return out

    for rank, out in enumerate(ranks(size, work, **more)):
        mine = spread.part(truth, rank, 2) if side != "keys" else truth
        if mine.numel():
            assert ((out.double() - mine).norm() / mine.norm()) < FAR
    return told


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_any_ranks_and_heads(size, heads, kind):
    """Ragged lengths, a prompt in front."""
    told = exact(size, heads, heads, 67, 5, kind)
    inner = inner_of(size, heads)
    for rounds, carried, _, stats, shares in told.values():
        assert rounds == ({} if inner == size else {AROUND: 1}) and len(shares) == inner
        assert (carried[AROUND] > 0) == (inner < size)
        assert sum(decision.calls for _, decision in stats.counted()) == 1
        assert {decision.used for _, decision in stats.counted()} == {"sdpa" if inner == size else "sdpa flash (ring)"}


@pytest.mark.parametrize("backend", ["host default", "auto"])
@pytest.mark.parametrize("kind", ["none", "keys", "heads"])
@pytest.mark.parametrize(("size", "heads"), [(2, 1), (3, 2), (4, 2), (6, 4)])
def test_kernels_without_log_sum_exp_get_all_keys(size, heads, kind, backend):
    for rounds, carried, *_ in exact(size, heads, heads, 67, 5, kind, rules=(Rule(backend),)).values():
        assert rounds == {KEYS: 1} and set(carried) == {KEYS}


@pytest.mark.parametrize(("side", "role"), [("queries", CROSS), ("keys", AUDIO_VIDEO)])
@pytest.mark.parametrize(("size", "heads"), [(2, 1), (3, 2), (4, 2), (6, 4)])
def test_attention_between_two_sequences(size, heads, side, role):
    for rounds, _, sent, *_ in exact(size, heads, heads, 41, 0, "keys", side, role).values():
        assert rounds == ({KEYS: 1} if side == "keys" else {}) and (sent > 0) == (side == "keys")


@pytest.mark.parametrize(("size", "length", "before"), [(2, 1, 0), (6, 3, 0), (4, 5, 4), (3, 2, 2)])
def test_fewer_tokens_than_ranks(size, length, before):
    exact(size, 1, 1, length, before, "none")
    exact(size, 1, 1, length, before, "none", rules=(Rule("host default"),))


@given(
    st.sampled_from([2, 3, 4, 6]), st.integers(1, 5), st.integers(1, 3), st.integers(7, 70), st.integers(0, 5),
    st.sampled_from(MASKS), st.booleans(), st.integers(1, 3), st.sampled_from(["sdpa flash", "host default"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_any_lengths_heads_shares_and_slices(size, key_heads, group, length, before, kind, uneven, slices, backend):
    weights = [1.0 + uneven * rank for rank in range(size)]
    rules = (Rule(backend),)
    exact(size, key_heads * group, key_heads, length, before, kind, weights=weights, slices=slices, rules=rules)


def test_bytes_handed_over_are_those_of_the_formula():
    """Among the near 8 L/S C (U - 1) / U^2 in 16 bit; around 4 L C (S - 1) / (S U)."""
    size, heads, length, dim = 4, 2, 64, 8
    tensors = [t.to(torch.bfloat16) for t in made(1, heads, heads, length, length, dim, batch=1)]

    def work(peers):
        answered(peers, tensors, None, Spread((16,) * 4), "both", SELF, heads)
        return peers.sent, peers.carried[AROUND]

    around, near = 4 * length * heads * dim // (2 * 2), 8 * length // 2 * heads * dim // 4
    # And marks by which the ranks agreed, two on the way and one on what came of the first call.
    assert ranks(size, work) == [(around + near + 3 * (size - 1), around)] * size


def test_no_kernel_with_a_log_sum_exp_is_no_reason_to_gather(monkeypatch):
    monkeypatch.setattr(ring_call, "FUSED", {})
    ring_call._attention.cache_clear()
    try:
        told = exact(3, 1, 1, 41, 0, "queries and keys")
    finally:
        ring_call._attention.cache_clear()
    assert {d.used for _, _, _, stats, _ in told.values() for _, d in stats.counted()} == {"written out (ring)"}


@pytest.mark.parametrize("wrong", ["base two", "raises", "no hidden rows"])
def test_a_kernel_of_another_log_sum_exp_is_not_used(wrong, monkeypatch):
    def kernel(q, k, v, mask, scale):
        out, lse = written_out(q, k, v, mask, scale)
        if wrong == "raises":
            raise RuntimeError("no such kernel")
        return out, lse / 0.6931 if wrong == "base two" else lse.new_zeros(lse.shape)

    monkeypatch.setattr(ring_call, "FUSED", {"cpu": {"faulty": kernel}})
    ring_call._attention.cache_clear()
    try:
        exact(2, 1, 1, 41, 0, "queries and keys")
        assert ring_call._attention(torch.device("cpu"), torch.float32, 8, True)[0] == "written out"
    finally:
        ring_call._attention.cache_clear()


def test_ranks_that_would_differ_do_what_all_can():
    """One was started with another attention of ComfyUI's."""

    def pytorch(q, k, v, heads, mask=None, **kw):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)

    pytorch.__qualname__ = "attention_pytorch"
    tensors, spread, told = made(1, 1, 1, 41, 41), Spread((21, 20)), {}
    truth = scaled_dot_product_attention(*(t.double() for t in tensors))
    for alike in (True, False):

        def work(peers, alike=alike):
            host = [pytorch] if alike or peers.rank else []
            out, _ = answered_by(peers, tensors, None, spread, "both", SELF, 1, (Rule("host default"),), *host)
            told[peers.rank] = dict(peers.rounds)
            return out

        for rank, out in enumerate(ranks(2, work)):
            mine = spread.part(truth, rank, 2)
            assert ((out.double() - mine).norm() / mine.norm()) < FAR
        assert told == dict.fromkeys((0, 1), {AROUND if alike else KEYS: 1})


def test_ranks_that_do_not_talk_are_found_wrong(monkeypatch):
    """The control: keys that were never handed on."""
    talk = ring.Some.all_to_all

    def deaf(self, pieces, shapes):
        return [c if s == self.rank else torch.zeros_like(c) for s, c in enumerate(talk(self, pieces, shapes))]

    monkeypatch.setattr(ring.Some, "begin", lambda self, *given: lambda: deaf(self, *given))
    for backend in ("sdpa flash", "host default"):
        monkeypatch.setattr(ring.Some, "all_to_all", deaf)
        with pytest.raises(AssertionError):
            exact(2, 1, 1, 41, 0, "none", rules=(Rule(backend),))
