"""More ranks than heads: a rule's kernel, guard and on_unsupported are what they are with one."""

from __future__ import annotations

import pytest
import torch
from rank_threads import ranks
from test_halo import GRID, NEAR, tensors_of
from test_shared_call import answered, made, mask_of

from attention.backends import registry, sdpa
from attention.core.error_handling import is_out_of_memory
from attention.core.geometry import Geometry, describe
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.site import SELF, SITE, AttentionSite
from attention.core.tokens import Tokens
from attention.parallel.ring import AROUND, KEYS, written_out
from attention.parallel.spread import Spread, cut
from attention.reuse import ReuseSettings
from attention.routing import ring_call
from attention.routing.compiled_op import OPTIONS
from attention.routing.errors import UnsupportedAttention
from attention.routing.router import Router
from attention.routing.rules import ERROR, GUARDS, Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

FAR, SIZE = 1e-5, 2


@pytest.fixture(autouse=True)
def asked_anew():
    ring_call._attention.cache_clear()
    yield
    ring_call._attention.cache_clear()


def ran(rule, heads=1, kind="none", key_heads=None, tensors=None):
    """The ways and the decisions of two ranks; their outputs are the exact ones."""
    tensors = tensors or made(1, heads, key_heads or heads, 41, 41)
    mask, spread = mask_of(kind, heads, 41, 41), Spread((21, 20))
    truth = scaled_dot_product_attention(*(t.double() for t in tensors), mask=mask)

    def work(peers):
        # Each has all heads, whatever their number.
        peers.inner = 1
        out, stats = answered(peers, tensors, mask, spread, "both", SELF, heads, (rule,))
        return out, dict(peers.rounds), [decision for _, decision in stats.counted()], stats

    found = ranks(SIZE, work)
    for rank, (out, *_) in enumerate(found):
        assert relative_l2(out.double(), spread.part(truth, rank, 2)) < FAR
    return [each[1:] for each in found]


@pytest.mark.parametrize("kind", ["none", "heads"])
@pytest.mark.parametrize("backend", ["sdpa cudnn", "sdpa efficient"])
def test_a_kernel_that_cannot_run_here_says_so(backend, kind):
    for heads in (1, 2):
        for rounds, (decision,), _ in ran(Rule(backend), heads, kind):
            assert rounds == {KEYS: 1} and decision.used.startswith("host default") and decision.fell_back == 1
            assert decision.wanted == backend and decision.reason == "needs cuda, the tensors are on cpu"
        with pytest.raises(UnsupportedAttention, match=f"'{backend}' cannot run the self-attention.*needs cuda"):
            ran(Rule(backend, on_unsupported=ERROR), heads, kind)


def test_keys_of_several_heads_are_refused_where_they_are_on_one():
    for rounds, (decision,), _ in ran(Rule("sdpa flash"), 2, key_heads=1):
        assert rounds == {KEYS: 1} and decision.fell_back == 1 and decision.reason == "grouped-query attention"
    for rounds, (decision,), _ in ran(Rule("sdpa"), 2, key_heads=1):
        assert rounds == {AROUND: 1} and decision.reason is None


@pytest.mark.parametrize("kind", ["none", "keys", "heads"])
def test_a_named_kernel_is_the_one_that_runs(kind):
    for backend, used, way in (
        ("sdpa math", "sdpa math", KEYS),
        ("sdpa flash", "sdpa flash (ring)", AROUND),
        ("sdpa", "sdpa flash (ring)", AROUND),
    ):
        for rounds, (decision,), _ in ran(Rule(backend), 2, kind):
            assert rounds == {way: 1} and decision.used == used and not decision.fell_back


def test_a_named_kernel_that_gives_no_log_sum_exp_gets_all_keys(monkeypatch):
    def base_two(*given):
        out, lse = written_out(*given)
        return out, lse / 0.6931

    monkeypatch.setattr(ring_call, "FUSED", {"cpu": {"sdpa flash": base_two, "another": written_out}})
    for backend, used, way in (("sdpa flash", "sdpa flash", KEYS), ("sdpa", "another (ring)", AROUND)):
        for rounds, (decision,), _ in ran(Rule(backend)):
            assert rounds == {way: 1} and decision.used == used


@pytest.mark.parametrize("named", ["", "sdpa flash", "sdpa efficient"])
def test_the_kernels_of_a_gpu_that_are_tried(named, monkeypatch):
    """In turn, or the one that is named alone. For want of a GPU nothing of theirs runs."""
    tried = []
    monkeypatch.setattr(ring_call, "_is_right", lambda attend, *_: tried.append(attend) or len(tried) == 2)
    name, _ = ring_call._attention(torch.device("cuda"), torch.bfloat16, 64, True, named)
    assert (len(tried), name) == ((1, "written out") if named else (2, "sdpa efficient"))


@pytest.mark.parametrize("device", ["cuda", "mps", "xpu", "privateuseone"])
def test_scores_are_written_out_on_the_cpu_alone(device, monkeypatch):
    """Elsewhere a kernel that has all keys is faster."""
    monkeypatch.setattr(ring_call, "_attention_of", lambda *_: ("written out", written_out))

    class Call:
        q = k = v = torch.zeros(1, 1, 4, 8)
        mask, kw = None, {}

    assert ring_call._can_go_around(Call, Rule("sdpa"), 8)
    Call.q = type("Q", (), {"device": torch.device(device)})
    assert not ring_call._can_go_around(Call, Rule("sdpa"), 8) and not ring_call._can_go_around(Call, None, 8)


@pytest.mark.parametrize("guard", GUARDS)
def test_the_first_output_is_looked_at(guard, monkeypatch):
    """One that is not finite is not handed on: the router runs the call, and every later one of its kind."""
    spoiled = []

    def spoils(q, k, v, mask, scale):
        out, lse = written_out(q, k, v, mask, scale)
        # Not the small call by which it is tried.
        if k.shape[2] != 40:
            spoiled.append(1)
            out[:, :, 3] = torch.nan
        return out, lse

    monkeypatch.setattr(ring_call, "FUSED", {"cpu": {"sdpa flash": spoils}})
    if guard == "off":
        with pytest.raises(AssertionError):
            ran(Rule("sdpa flash", guard=guard))
        return
    for rounds, (decision,), _ in ran(Rule("sdpa flash", guard=guard)):
        assert rounds == {KEYS: 1} and decision.used == "sdpa flash" and decision.calls == 1
    assert bool(spoiled) == (guard == "first call")


def test_a_rank_that_finds_nothing_does_as_the_one_that_does():
    """NaN in one rank's queries, which no kernel is to blame for: the router says so there."""
    tensors, spread = made(1, 1, 1, 41, 41), Spread((21, 20))
    tensors[0][:, :, 3] = torch.nan

    def work(peers):
        for _ in range(2):
            out, stats = answered(peers, tensors, None, spread, "both", SELF, 1, (Rule("sdpa flash"),))
        return out.isfinite().all(-1).sum().item(), dict(peers.rounds), list(stats.notes)

    (ill, *_), (well, *_) = (first, second) = ranks(SIZE, work)
    assert (ill, well) == (2 * 20, 2 * 20) and first[1] == second[1] == {KEYS: 2}
    assert not second[2] and "is not to blame for" in " ".join(first[2])


def test_memory_that_is_missing_while_a_kernel_is_tried_tells_nothing_of_it(monkeypatch):
    flash, full = ring_call.FUSED["cpu"]["sdpa flash"], [1]

    def kernel(*given):
        if full:
            raise torch.OutOfMemoryError("CUDA out of memory (a test's)")
        return flash(*given)

    monkeypatch.setattr(ring_call, "FUSED", {"cpu": {"sdpa flash": kernel}})
    asked = (torch.device("cpu"), torch.float32, 8, False)
    with pytest.raises(torch.OutOfMemoryError) as found:
        ring_call._attention(*asked)
    assert is_out_of_memory(found.value)
    full.clear()
    assert ring_call._attention(*asked)[0] == "sdpa flash"


@pytest.mark.parametrize("shape", [None, Shape(NEAR, min_tokens=0)])
@pytest.mark.parametrize("error", [False, True])
def test_outputs_that_cannot_be_kept_are_an_error_where_one_is_asked_for(error, shape):
    """Around, and where each fetches only what it sees: outside of a sampling nothing is kept."""
    tensors, spread = tensors_of(GRID, 1, 1), Spread(cut(240, [1.0] * SIZE))
    kept = Rule(reuse=ReuseSettings(), **({"on_unsupported": ERROR} if error else {}))
    rules = (Rule("sdpa flash"), kept, *(() if shape is None else (Rule(shape=shape),)))

    def work(peers):
        stats = RunStats()
        context = stats.context.but(share=peers.share(240, 0), tokens=Tokens(GRID))
        options = {SITE: AttentionSite("Made up", SELF, 0, heads=1), CONTEXT: context}
        local = [spread.part(t, peers.rank, 2) for t in tensors]
        try:
            Router(rules)(None, *local, 1, skip_reshape=True, skip_output_reshape=True, **{OPTIONS: options})
        except UnsupportedAttention as refused:
            # Before anything is handed over, on all alike.
            return str(refused), peers.sent
        return peers.halos, dict(peers.rounds)

    for answer in ranks(SIZE, work):
        if error:
            assert answer[1] == 0 and answer[0].startswith("every: no output of self-attention can be kept: it runs")
        else:
            assert answer == ((0, {AROUND: 1}) if shape is None else (1, {}))


def test_what_refuses_is_told_the_call_with_all_keys():
    q = torch.zeros(1, 2, 5, 8)

    class Call:
        k = v = q
        mask, kw = None, {"low_precision_attention": False}

    Call.q = q
    found, plain = ring_call._geometry(Call, 41), describe(q, q, q)
    assert isinstance(found, Geometry) and (found.q_len, found.kv_len, found.low_precision) == (5, 41, False)
    assert plain.kv_len == 5 and registry.why_not(sdpa.FLASH.name, found) is None
