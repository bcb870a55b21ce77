"""The router over many calls: guards, precision, what runs count, threads, pass-through, copies."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from open_limits import open_limits

from attention.backends import registry
from attention.backends.spec import Backend
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.inspect.report import summarise
from attention.routing.router import Router
from attention.routing.rules import GUARD_EVERY, GUARD_FIRST, GUARD_OFF, IN_ORDER, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, IDLE

torch.set_num_threads(1)

HEADS, HEAD_DIM = 4, 8


def attention_stand_in(
    q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
):
    """The host's own attention: an answer that no kernel of this file gives."""
    return torch.full_like(q, 7.0)


@pytest.fixture
def backend(monkeypatch):
    """backend(kernel, **limits) puts `kernel` into the table as "test"."""

    def add(kernel, **limits):
        row = Backend("test", "A test's.", open_limits(**limits), load=lambda: kernel)
        monkeypatch.setitem(registry._BY_NAME, "test", row)
        monkeypatch.setitem(registry._LOADED, "test", kernel)
        monkeypatch.setattr(registry, "TABLE", (row, *registry.TABLE))

    return add


class Scripted:
    """A kernel that gives 3, and NaN at the calls in `bad` (counted from 1)."""

    def __init__(self, *bad):
        self.bad, self.given = bad, []

    def __call__(self, q, k, v, mask=None, scale=None):
        self.given.append((q, k, v, mask, scale))
        return torch.full_like(q, torch.nan if len(self.given) in self.bad else 3.0)


def qkv(length=5, kv_heads=HEADS, dtype=torch.float32):
    return tuple(torch.randn(2, length, h * HEAD_DIM).to(dtype) for h in (HEADS, kv_heads, kv_heads))


def split(t):
    return t.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)


def run(router, tensors=None, stats=None, **kw):
    context = (stats.context if stats else IDLE).but(off=kw.pop("off", ()))
    options = {CONTEXT: context} | kw.pop("options", {})
    return router(attention_stand_in, *(tensors or qkv()), HEADS, transformer_options=options, **kw)


def mark(out):
    """One letter for an answer: k the kernel's, h the host's, n NaN."""
    return "n" if out.isnan().any() else {3.0: "k", 7.0: "h"}[out.unique().item()]


GUARDED = (
    # guard, calls with NaN, what four calls give, fallbacks counted
    (GUARD_OFF, (1,), "nkkk", 0),
    (GUARD_FIRST, (1,), "hhhh", 4),
    (GUARD_FIRST, (2,), "knkk", 0),  # by design: a check costs a pass over the output and a wait for the GPU
    (GUARD_EVERY, (1,), "hhhh", 4),
    (GUARD_EVERY, (3,), "kkhh", 2),  # and never that kernel again for this geometry
    (GUARD_EVERY, (), "kkkk", 0),
)


@pytest.mark.parametrize(("guard", "bad", "expected", "fallbacks"), GUARDED)
def test_guard(backend, guard, bad, expected, fallbacks):
    kernel, stats = Scripted(*bad), RunStats()
    backend(kernel)
    router = Router((Rule(backend="test", guard=guard),))
    assert "".join(mark(run(router, stats=stats)) for _ in range(4)) == expected
    (decision,) = stats.decisions.values()
    assert (decision.calls, decision.fell_back) == (4, fallbacks)
    assert decision.reason == ("NaN or Inf in the output" if fallbacks else None)


def test_guard_sees_infinity(backend):
    one = torch.tensor([2])
    backend(lambda q, k, v, mask=None, scale=None: torch.full_like(q, 3.0).index_fill(-1, one, -torch.inf))
    assert mark(run(Router((Rule(backend="test"),)))) == "h"


def test_a_failure_is_remembered_for_its_geometry_only(backend):
    kernel, stats = Scripted(1), RunStats()
    backend(kernel)
    router = Router((Rule(backend="test"),))
    assert [mark(run(router, qkv(n), stats)) for n in (5, 5, 6, 6)] == ["h", "h", "k", "k"]
    assert len(kernel.given) == 3


@pytest.mark.parametrize("why", [{"low_precision_attention": False}, {"attn_precision": torch.float32}])
@pytest.mark.parametrize("exact", [False, True])
def test_quantised_kernels_yield_to_exact_calls(backend, why, exact):
    kernel, stats = Scripted(), RunStats()
    backend(kernel, exact=exact)
    out = run(Router((Rule(backend="test"),)), qkv(dtype=torch.float16), stats, **why)
    (decision,) = stats.decisions.values()
    assert mark(out) == ("k" if exact else "h") and len(kernel.given) == exact
    assert decision.reason == (None if exact else "the model asks for exact attention here")


def test_auto_passes_quantised_kernels_over_for_exact_calls(backend):
    backend(Scripted(), exact=False)
    stats = RunStats()
    run(Router((Rule(choice=IN_ORDER),)), stats=stats, low_precision_attention=False)
    (decision,) = stats.decisions.values()
    assert (
        decision.used not in ("test", "") and decision.passed_over["test"] == "the model asks for exact attention here"
    )


def test_one_geometry_may_need_two_decisions(backend):
    """What a decision depends on tells two calls of the same shape apart."""
    backend(Scripted(), exact=False, masks=("none", "key"))
    router, stats, tensors = Router((Rule(backend="test"),)), RunStats(), qkv()
    turns = ({}, {"low_precision_attention": False}, {"attn_precision": torch.float64}, {"mask": torch.ones(5, 5)}, {})
    assert "".join(mark(run(router, tensors, stats, **kw)) for kw in turns) == "khhhk"
    # (5, 8) per head in the one layout, four tokens of five heads in the other.
    assert mark(run(router, [t.view(2, 4, 5, 8) for t in tensors], stats, skip_reshape=True)) == "k"
    assert sorted(decision.calls for decision in stats.decisions.values()) == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("mask_dtype", [None, torch.bool, torch.float16, torch.float32])
def test_attn_precision_is_computed_in(backend, mask_dtype):
    """float16 in, float32 arithmetic, float16 out; the mask may have either dtype."""
    kernel = Scripted()
    backend(kernel)
    tensors = qkv(dtype=torch.float16)
    mask = None if mask_dtype is None else torch.ones(1, 1, 1, 5).to(mask_dtype)
    out = run(Router((Rule(backend="test"),)), tensors, mask=mask, attn_precision=torch.float32, scale=0.3)
    ((*given, given_mask, scale),) = kernel.given
    assert out.dtype == torch.float16 and mark(out) == "k" and scale == 0.3
    assert all(t.dtype == torch.float32 and torch.equal(t, split(u).float()) for t, u in zip(given, tensors))
    assert given_mask is None if mask is None else given_mask.dtype in (torch.bool, torch.float32)


def test_wide_arithmetic_is_more_exact():
    tensors = [t * 30 for t in qkv(length=257, dtype=torch.bfloat16)]
    truth = scaled_dot_product_attention(*(split(t).double() for t in tensors)).transpose(1, 2).flatten(2)
    router = Router((Rule(backend="sdpa"),))
    wide = run(router, tensors, attn_precision=torch.float32)
    assert wide.dtype == torch.bfloat16 and relative_l2(wide, truth.bfloat16()) < 1e-3


@pytest.mark.parametrize("skip_reshape", [False, True])
@pytest.mark.parametrize("enable_gqa", [False, True])
def test_grouped_queries(skip_reshape, enable_gqa):
    """k and v of two heads for four query heads, in both layouts."""
    tensors, stats = qkv(kv_heads=2), RunStats()
    heads = [split(t) for t in tensors]
    kw = {"enable_gqa": True} if enable_gqa else {}
    out = run(
        Router((Rule(backend="sdpa"),)), heads if skip_reshape else tensors, stats,
        skip_reshape=skip_reshape, skip_output_reshape=True, **kw,
    )  # fmt: skip
    (decision,) = stats.decisions.values()
    assert (decision.geometry.heads, decision.geometry.kv_heads, decision.used) == (4, 2, "sdpa")
    assert relative_l2(out, scaled_dot_product_attention(*(t.double() for t in heads))) < 1e-6


def test_counts_are_exact(backend):
    backend(Scripted())
    router, stats = Router((Rule(backend="test"),)), RunStats()
    wanted = {5: 7, 6: 11, 9: 1}
    for length, times in wanted.items():
        for _ in range(times):
            run(router, qkv(length), stats)
    assert {decision.geometry.q_len: decision.calls for decision in stats.decisions.values()} == wanted
    report = summarise(stats)
    assert (report.calls, report.ruled, report.fallbacks.total()) == (19, 19, 0)
    assert [(row.role, row.used, row.calls) for row in report.rows] == [("self", "test", 19)]


def test_counts_go_to_the_published_stats(backend):
    backend(Scripted())
    router, published = Router((Rule(backend="test"),)), RunStats()
    run(router, stats=published)
    assert len(published.decisions) == 1 and not router.stats.decisions
    router(attention_stand_in, *qkv(), HEADS)  # a model called outside of sampling publishes nothing
    run(router)
    assert [decision.calls for decision in router.stats.decisions.values()] == [2] and len(published.decisions) == 1


def test_timing_counts_every_call(backend):
    backend(Scripted())
    for timing, spans in ((False, 0), (True, 3)):
        stats = RunStats()
        router = Router((Rule(backend="test", timing=timing),))
        for _ in range(3):
            run(router, stats=stats)
        (decision,) = stats.decisions.values()
        assert len(decision.spans) == spans and (decision.seconds() > 0) is timing


def test_turned_off_routers_pass_through(backend):
    kernel, stats = Scripted(), RunStats()
    backend(kernel)
    router, other = Router((Rule(backend="test"),)), Router((Rule(backend="test"),))
    assert mark(run(router, stats=stats, off=(router,))) == "h"
    assert mark(run(Router(()), stats=stats)) == "h"
    assert not kernel.given and not stats.decisions
    assert mark(run(other, stats=stats, off=(router,))) == "k"


def test_a_router_above_a_router(backend):
    """Another pack between two of ours: the lower one still routes what the upper one leaves."""
    backend(Scripted())
    lower, stats = Router((Rule(backend="test"),)), RunStats()
    upper = Router((Rule(backend="test", role="cross"),), previous=lower)
    assert mark(run(upper, stats=stats)) == "k"
    assert sorted(decision.calls for decision in stats.decisions.values()) == [1, 1]


def test_threads_with_their_own_tallies_do_not_mix(backend):
    backend(lambda q, k, v, mask=None, scale=None: q * 2)
    router, runs, wrong = Router((Rule(backend="test"),)), [RunStats(), RunStats()], []

    def work(index):
        for turn in range(150):
            tensors = qkv(5 + index + 2 * (turn % 3))
            out = run(router, tensors, runs[index])
            if not torch.equal(out, tensors[0] * 2):
                wrong.append((index, turn))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for index, stats in enumerate(runs):
        counted = {decision.geometry.q_len: decision.calls for decision in stats.decisions.values()}
        assert counted == {5 + index + 2 * i: 50 for i in range(3)}


def test_copies_keep_their_identity():
    """Old hosts deep-copy model_options: the published steps name this router and no other."""
    router = Router((Rule(),))
    options = copy.deepcopy({"transformer_options": {"optimized_attention_override": router}})
    assert options["transformer_options"]["optimized_attention_override"] is router


def test_with_rule_leaves_the_router_alone():
    previous, first, second = attention_stand_in, Rule(), Rule(role="cross")
    router = Router((first,), previous)
    more = router.with_rule(second)
    assert router.rules == (first,) and more.rules == (first, second) and more.previous is previous


STRANGE = (
    ({"k": lambda t: t[:, :, :-3]}, "k and v of 29 and 32 channels, head size 8"),
    ({"v": lambda t: t[:, :, :-5]}, "k and v of 32 and 27 channels, head size 8"),
    ({"v": lambda t: t[:, :-1]}, "q, k and v of different batch or head size"),
    ({"k": lambda t: t[:1]}, "q, k and v of different batch or head size"),
    ({"q": lambda t: t[:, :, :-1]}, "tensors of 3 axes and 4 heads"),
    ({"mask": lambda t: torch.zeros(5)}, "mask of 1 axes"),  # torch broadcasts it
    ({"mask": lambda t: torch.zeros(1, 1, 1, 5, 5)}, "mask of 5 axes"),
    ({"k": lambda t: t[:, :, :0], "v": lambda t: t[:, :, :0]}, "4 heads over 0 key heads"),
    ({"k": lambda t: t[:, :, :24], "v": lambda t: t[:, :, :24]}, "4 heads over 3 key heads"),
)


@pytest.mark.parametrize(("change", "why"), STRANGE, ids=lambda given: given if isinstance(given, str) else "")
def test_what_nobody_can_describe_goes_to_the_host(change, why):
    given = dict(zip("qkv", qkv()), mask=None)
    given |= {name: alter(given[name]) for name, alter in change.items()}
    stats = RunStats()
    mask = given.pop("mask")
    out = run(Router((Rule(backend="sdpa"),)), tuple(given.values()), stats, mask=mask)
    (decision,) = stats.decisions.values()
    assert mark(out) == "h" and decision.fell_back == 1 and decision.reason == why


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_masks_of_two_to_four_axes_are_read(axes):
    stats, mask, given = RunStats(), torch.randn((1,) * (axes - 2) + (5, 5)), qkv()
    out = run(Router((Rule(backend="reference"),)), given, stats, mask=mask)
    wanted = scaled_dot_product_attention(*(split(each).double() for each in given), mask.double())
    assert relative_l2(split(out), wanted) < 1e-6 and not next(iter(stats.decisions.values())).fell_back
