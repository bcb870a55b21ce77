"""Attention over ranks through the router, against float64 of the whole call."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import ranks

from attention.core.reference import scaled_dot_product_attention
from attention.core.site import AUDIO_VIDEO, CROSS, SELF, SITE, AttentionSite
from attention.parallel.peers import Broken
from attention.parallel.spread import Spread, cut
from attention.routing import attention_call
from attention.routing.compiled_op import OPTIONS
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

MATH = (Rule("sdpa math"),)
MASKS = ("none", "keys", "queries and keys", "heads", "added")


def made(seed, heads, key_heads, q_len, kv_len, dim=8, batch=2):
    random = torch.Generator().manual_seed(seed)
    q = torch.randn(batch, heads, q_len, dim, generator=random)
    k, v = (torch.randn(batch, key_heads, kv_len, dim, generator=random) for _ in range(2))
    return q, k, v


def mask_of(kind, heads, q_len, kv_len):
    random = torch.Generator().manual_seed(3)
    shapes = {"keys": (1, 1, 1, kv_len), "queries and keys": (1, 1, q_len, kv_len), "heads": (1, heads, q_len, kv_len)}
    if kind == "none":
        return None
    if kind == "added":
        return torch.randn(1, 1, q_len, kv_len, generator=random)
    mask = torch.rand(shapes[kind], generator=random) > 0.3
    mask[..., 0] = True
    return mask


def answered(peers, tensors, mask, spread, side, role, heads, rules=MATH, host=None):
    """The rank's rows, through a router with a kernel of our own."""
    q, k, v = tensors
    q = spread.part(q, peers.rank, 2) if side in ("both", "queries") else q
    k, v = (spread.part(x, peers.rank, 2) if side in ("both", "keys") else x for x in (k, v))
    return asked(peers, (q, k, v), mask, spread, role, heads, rules, host)


def asked(peers, local, mask, spread, role, heads, rules=MATH, other=None):
    """What a router gives for the tokens that a rank has, and who counted."""
    share = peers.share(sum(spread.sizes), spread.before)
    assert share.spread == spread
    stats = RunStats()
    site = AttentionSite("Made up", role, 0, heads=heads)
    options = {SITE: site, CONTEXT: stats.context.but(share=share)}

    def host(q, k, v, heads, mask=None, **kw):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=k.shape[1] != q.shape[1])

    router = Router(rules)
    return router(
        other or host, *local, heads, mask=mask, skip_reshape=True, skip_output_reshape=True, **{OPTIONS: options}
    ), stats  # fmt: skip


def check(size, heads, key_heads, length, before, kind, side="both", role=SELF, other=9, weights=None, slices=1):
    q_len, kv_len = (length if side != "keys" else other), (length if side != "queries" else other)
    tensors, mask = made(1, heads, key_heads, q_len, kv_len), mask_of(kind, heads, q_len, kv_len)
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)
    spread = Spread(cut(length - before, weights or [1.0] * size), before)
    found = ranks(size, lambda peers: answered(peers, tensors, mask, spread, side, role, heads), weights, slices)
    for rank, (out, stats) in enumerate(found):
        mine = spread.part(truth, rank, 2) if side != "keys" else truth
        assert ((out.double() - mine).norm() / mine.norm()) < 1e-5
        assert sum(decision.calls for _, decision in stats.counted()) == 1
        assert slices == 1 or side != "both" or len(stats.decisions) <= slices


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("before", [0, 7])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_self_attention(size, before, kind):
    check(size, 5, 5, 67, before, kind)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize(("side", "role"), [("queries", CROSS), ("keys", AUDIO_VIDEO)])
@pytest.mark.parametrize("size", [2, 3])
def test_attention_between_two_sequences(size, side, role, kind):
    check(size, 4, 4, 41, 0, kind, side, role)


def test_a_mask_is_turned_into_the_models_dtype_once_for_all_slices(monkeypatch):
    plain, turned = attention_call.to_mask, []

    def counted(mask, dtype):
        found = plain(mask, dtype)
        turned.extend([1] * (found is not mask))
        return found

    monkeypatch.setattr(attention_call, "to_mask", counted)
    mask = -torch.rand(1, 1, 40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    tensors, spread = made(1, 8, 8, 40, 40), Spread((20, 20))
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)
    found = ranks(2, lambda peers: answered(peers, tensors, mask, spread, "both", SELF, 8), slices=4)
    for rank, (out, stats) in enumerate(found):
        mine = spread.part(truth, rank, 2)
        assert ((out.double() - mine).norm() / mine.norm()) < 1e-5 and len(stats.decisions) > 1
    assert len(turned) == 2, "once on each of two ranks"


@given(
    st.integers(2, 4), st.integers(4, 9), st.integers(1, 2), st.integers(9, 70), st.integers(0, 5),
    st.sampled_from(MASKS), st.booleans(), st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_lengths_heads_shares_and_slices(size, key_heads, group, length, before, kind, uneven, slices):
    weights = [1.0 + uneven * rank for rank in range(size)]
    check(size, key_heads * group, key_heads, length, before, kind, weights=weights, slices=slices)


def test_a_call_of_other_tokens_is_an_error_on_all():
    tensors = made(1, 4, 4, 40, 40)

    def work(peers):
        spread = Spread((20, 20))
        local = [spread.part(t, peers.rank, 2)[:, :, : 20 - peers.rank] for t in tensors]
        return asked(peers, local, None, spread, SELF, 4)

    with pytest.raises(Broken, match="of 19 x 19 tokens in block 0, where this GPU has 20: another node changed"):
        ranks(2, work)


def test_a_call_of_nobody_is_an_error():
    def work(peers):
        share = peers.share(40, 0)
        options = {CONTEXT: RunStats().context.but(share=share)}
        q = torch.zeros(1, 20, 8)
        return Router((Rule("sdpa math"),))(None, q, q, q, 4, **{OPTIONS: options})

    with pytest.raises(Broken, match="does not tell which module makes it"):
        ranks(2, work)


def test_ranks_that_do_not_compute_alike_say_so():
    """One is at its end while another waits for its tokens."""

    def work(peers):
        if peers.rank:
            return peers.finish()
        return peers.all_to_all([torch.zeros(1)] * 2, [(1,)] * 2)

    with pytest.raises(Broken, match="did not compute alike|stopped in the middle"):
        ranks(2, work)


def test_pieces_of_another_shape_are_an_error():
    def work(peers):
        return peers.all_to_all([torch.zeros(1 + peers.rank)] * 2, [(1,)] * 2)

    with pytest.raises(Broken, match="were due|stopped"):
        ranks(2, work)


def test_what_came_is_not_what_was_handed_over():
    """Who handed it over may write over it as soon as all have met."""

    def work(peers):
        pieces = [torch.full((3,), 10.0 * peers.rank + s) for s in range(2)]
        came = peers.all_to_all(pieces, [(3,)] * 2)
        pieces[1 - peers.rank].zero_()
        peers.finish()
        return [piece.tolist() for piece in came]

    assert ranks(2, work) == [[[0.0] * 3, [10.0] * 3], [[1.0] * 3, [11.0] * 3]]


def test_the_mean_is_of_all_heads():
    values = [torch.tensor([1.0, 2.0]), torch.tensor([4.0, 8.0])]
    found = ranks(2, lambda peers: peers.mean(values[peers.rank], 3 - peers.rank))
    for mean in found:
        torch.testing.assert_close(mean, torch.tensor([(3 * 1 + 2 * 4) / 5, (3 * 2 + 2 * 8) / 5]))


def test_bytes_handed_over_are_those_of_the_formula():
    """8 L C (N - 1) / N^2 in 16 bit for q, k, v and the output, with lengths and heads that divide."""
    size, heads, length, dim = 4, 8, 64, 8
    tensors = [t.to(torch.bfloat16) for t in made(1, heads, heads, length, length, dim, batch=1)]

    def work(peers):
        answered(peers, tensors, None, Spread((16,) * 4), "both", SELF, heads)
        return peers.sent

    assert ranks(size, work) == [8 * length * heads * dim * (size - 1) // size**2] * size
