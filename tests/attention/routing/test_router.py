"""The router against a recording stand-in for the host: which rule wins, what runs, what is counted and said."""

from __future__ import annotations

import re

import pytest
import torch
from open_limits import open_limits

from attention.backends import registry
from attention.backends.spec import Backend, Unavailable
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.site import CROSS, SELF, SITE, AttentionSite
from attention.inspect.report import summarise
from attention.routing.errors import UnsupportedAttention
from attention.routing.router import Router
from attention.routing.rules import ERROR, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)


class Host:
    """The host's own attention: records its arguments and answers with a marked tensor of the right shape."""

    def __init__(self):
        self.calls = []
        self.__qualname__ = "attention_stand_in"

    def __call__(
        self, q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw
    ):
        self.calls.append(
            ((q, k, v, heads), (mask, attn_precision, skip_reshape, skip_output_reshape), kw),
        )
        return torch.full_like(q, 7.0)


def make_kernel(value=3.0, seen=None):
    def kernel(q, k, v, mask=None, scale=None):
        if seen is not None:
            seen.append((q, k, v, mask, scale))
        return torch.full_like(q, value)

    return kernel


@pytest.fixture
def backends(monkeypatch):
    """Adds a backend under a name: add(name, kernel, **limits). What is added comes before `sdpa` for `auto`."""

    def add(name, kernel, **limits):
        row = Backend(name, "A test's.", open_limits(**limits), load=lambda: kernel)
        monkeypatch.setitem(registry._BY_NAME, name, row)
        monkeypatch.setitem(registry._LOADED, name, kernel)
        monkeypatch.setattr(registry, "TABLE", (row, *registry.TABLE))

    return add


def qkv(q_len=5, kv_len=None, heads=2, head_dim=8, dtype=torch.float32):
    return tuple(torch.randn(2, n, heads * head_dim).to(dtype) for n in (q_len, kv_len or q_len, kv_len or q_len))


def ask(rules, options=None, host=None, tensors=None, stats=None, previous=None, active=None, **kw):
    """One call through a new Router: (output, its only record or None)."""
    stats = stats or RunStats()
    router = rules if isinstance(rules, Router) else Router(rules, previous)
    context = stats.context if active is None else stats.context.but(active=tuple(active.items()))
    options = {CONTEXT: context, **(options or {})}
    out = router(host or Host(), *(tensors or qkv()), 2, transformer_options=options, **kw)
    return out, next(iter(stats.decisions.values()), None)


SITES = (
    # rules as (role, blocks, backend), site, index of the rule that wins
    ([("all", (), "a")], AttentionSite("LTXV", SELF, 3), 0),
    ([("all", (), "a"), ("all", (), "b")], AttentionSite("LTXV", SELF, 3), 1),  # the last one wins
    ([("all", (), "a"), ("cross", (), "b")], AttentionSite("LTXV", SELF, 3), 0),
    ([("all", (), "a"), ("cross", (), "b")], AttentionSite("LTXV", CROSS, 3), 1),
    ([("self", (), "a")], AttentionSite("LTXV", CROSS, 3), None),
    ([("all", ((0, 3),), "a")], AttentionSite("LTXV", SELF, 3), 0),  # both ends belong to a span
    ([("all", ((0, 2), (4, None)), "a")], AttentionSite("LTXV", SELF, 3), None),
    ([("all", ((0, 2), (4, None)), "a")], AttentionSite("LTXV", SELF, 400), 0),
    ([("all", ((0, None),), "a")], AttentionSite("", SELF, None), None),  # an unknown block is in no list
    ([("all", (), "a"), ("all", ((0, None),), "b")], AttentionSite("", SELF, None), 0),
    ([("self", ((3, 3),), "a"), ("cross", ((3, 3),), "b")], AttentionSite("LTXV", SELF, 3), 0),
    ([], AttentionSite("LTXV", SELF, 3), None),
)


@pytest.mark.parametrize(("rules", "site", "winner"), SITES)
def test_last_matching_rule_wins(backends, rules, site, winner):
    backends("a", make_kernel(1.0))
    backends("b", make_kernel(2.0))
    rules = tuple(Rule(backend=name, role=role, blocks=blocks) for role, blocks, name in rules)
    host = Host()
    out, decision = ask(rules, {SITE: site}, host)
    assert out.unique().tolist() == [7.0 if winner is None else {"a": 1.0, "b": 2.0}[rules[winner].backend]]
    assert len(host.calls) == (winner is None)
    assert (
        decision is None
        or decision.site is site
        and decision.wanted == (None if winner is None else rules[winner].backend)
    )


@pytest.mark.parametrize(("q_len", "kv_len", "role"), [(5, 5, SELF), (5, 9, CROSS), (9, 5, CROSS)])
def test_role_is_guessed_from_the_lengths(q_len, kv_len, role):
    _, decision = ask((Rule(backend="sdpa"),), tensors=qkv(q_len, kv_len))
    assert (decision.site.role, decision.site.block) == (role, None)


def test_host_default_is_a_rule_too(backends):
    backends("a", make_kernel())
    host = Host()
    _, decision = ask((Rule(backend="a"), Rule(backend=registry.HOST, role=SELF)), host=host)
    assert len(host.calls) == 1 and (decision.wanted, decision.reason, decision.fell_back) == (registry.HOST, None, 0)


# (rules, `active` that the host publishes or None for no step, the rule that wins)
STEPS = (
    ([(0.0, 1.0), (0.0, 0.5)], (True, True), 1),
    ([(0.0, 1.0), (0.0, 0.5)], (True, False), 0),
    ([(0.0, 0.5)], (False,), None),
    ([(0.0, 0.5)], None, None),  # nobody says which step it is: a rule for some steps stays out
    ([(0.0, 1.0)], None, 0),
    ([(0.0, 1.0), (0.2, 1.0)], None, 0),
)


@pytest.mark.parametrize(("spans", "active", "winner"), STEPS)
def test_steps(backends, spans, active, winner):
    names = ("a", "b")
    for value, name in enumerate(names):
        backends(name, make_kernel(float(value)))
    router = Router(tuple(Rule(backend=name, start=lo, end=hi) for name, (lo, hi) in zip(names, spans)))
    out, _ = ask(router, active=None if active is None else {router: active})
    assert out.unique().tolist() == [7.0 if winner is None else float(winner)]


def test_step_changes_the_rule_within_a_run(backends):
    backends("a", make_kernel(1.0))
    router, stats = Router((Rule(backend="a", end=0.5),)), RunStats()
    contexts = [stats.context.but(active=((router, (i < 2,)),)) for i in range(4)]
    values = [ask(router, {CONTEXT: context}, stats=stats)[0].unique().item() for context in contexts]
    assert values == [1.0, 1.0, 7.0, 7.0]
    assert sorted((r.wanted or "", r.calls) for r in stats.decisions.values()) == [("", 2), ("a", 2)]


def test_step_of_another_router_counts_as_unknown(backends):
    backends("a", make_kernel(1.0))
    other = Router((Rule(backend="a"),))
    out, _ = ask((Rule(backend="a", end=0.5),), active={other: (True,)})
    assert out.unique().tolist() == [7.0]


FORWARDED = (
    {"mask": torch.ones(1, 1, 1, 5)},
    {"attn_precision": torch.float32},
    {"skip_output_reshape": True},
    {"scale": 0.3, "enable_gqa": True, "low_precision_attention": False},
    {"_inside_attn_wrapper": True, "from_a_later_version": object()},  # unknown keywords are not ours to drop
)


@pytest.mark.parametrize("kw", FORWARDED, ids=lambda kw: "+".join(kw))
@pytest.mark.parametrize("why", ["no rule covers it", "refused", "failed"])
@pytest.mark.parametrize("foreign", [False, True])
def test_next_gets_the_same_arguments(backends, kw, why, foreign):
    """Whatever sends a call on, the host or the override found in the slot gets it as it came."""

    def broken(q, k, v, mask=None, scale=None):
        raise RuntimeError("broken")

    backends("broken", broken)
    backends("small", make_kernel(), head_dims=(4,))
    rule = {"no rule covers it": Rule(role=CROSS), "refused": Rule(backend="small"), "failed": Rule(backend="broken")}
    host, below, tensors = Host(), Host(), qkv()

    def previous(func, *args, **kwargs):
        assert func is host
        return below(*args, **kwargs)

    out, _ = ask((rule[why],), host=host, tensors=tensors, previous=previous if foreign else None, **kw)
    ((given, named, rest),) = (below if foreign else host).calls
    assert not (host if foreign else below).calls and out.unique().tolist() == [7.0]
    assert all(a is b for a, b in zip(given, tensors)) and given[3] == 2
    known = ("mask", "attn_precision", "skip_reshape", "skip_output_reshape")
    default = dict(zip(known, (None, None, False, False)))
    assert all(a is {**default, **kw}[name] for name, a in zip(known, named))
    assert set(rest) - {"transformer_options"} == set(kw) - set(known)
    assert all(rest[name] is kw[name] for name in set(kw) - set(known)) and "transformer_options" in rest


def test_other_override_is_named(backends):
    backends("small", make_kernel(), head_dims=(4,))

    def their_override(func, *args, **kwargs):
        return func(*args, **kwargs)

    _, decision = ask((Rule(backend="small"),), previous=their_override)
    assert decision.used.startswith("other override (") and "their_override" in decision.used


def test_mask_may_be_positional():
    q, k, v = qkv()
    mask = torch.rand(2, 1, 1, 5) < 0.5
    mask[..., 0] = True
    out = Router((Rule(backend="sdpa"),))(Host(), q, k, v, 2, mask)
    split = [t.unflatten(-1, (2, 8)).transpose(1, 2).double() for t in (q, k, v)]
    truth = scaled_dot_product_attention(*split, mask).transpose(1, 2).flatten(2)
    assert relative_l2(out, truth) < 1e-6


def missing():
    raise Unavailable("not installed; do this")


UNSUPPORTED = (
    ({"backend": "small"}, "head size 8, takes 4"),
    ({"backend": "absent"}, "not installed; do this"),
    ({"backend": "broken"}, "RuntimeError: out of luck"),
    ({"backend": "nan"}, "NaN or Inf in the output"),
    ({"backend": "bent"}, r"ValueError: output shape \(2, 2, 5, 7\) instead of \(2, 2, 5, 8\)"),
)


@pytest.fixture
def bad_backends(backends, monkeypatch):
    def broken(q, k, v, mask=None, scale=None):
        raise RuntimeError("out of luck\nand a second line")

    backends("small", make_kernel(), head_dims=(4,))
    backends("broken", broken)
    backends("nan", make_kernel(torch.nan))
    backends("bent", lambda q, k, v, mask=None, scale=None: q[..., :-1])
    monkeypatch.setitem(registry._BY_NAME, "absent", Backend("absent", "A test's.", open_limits(), load=missing))
    monkeypatch.delitem(registry._LOADED, "absent", raising=False)


@pytest.mark.parametrize(("rule", "reason"), UNSUPPORTED)
def test_error_names_backend_site_and_reason(bad_backends, rule, reason):
    text = rf"backend: '{rule['backend']}' cannot run the self-attention of block 3 \(2x2 heads, 5x5 tokens.*{reason}"
    host = Host()
    with pytest.raises(UnsupportedAttention, match=text):
        ask((Rule(**rule, on_unsupported=ERROR),), {SITE: AttentionSite("LTXV", SELF, 3)}, host)
    assert not host.calls


@pytest.mark.parametrize(("rule", "reason"), UNSUPPORTED)
def test_fallbacks_are_counted_with_their_reason(bad_backends, rule, reason):
    router, stats, host = Router((Rule(**rule),)), RunStats(), Host()
    for _ in range(3):
        out, decision = ask(router, host=host, stats=stats)
    assert len(host.calls) == 3 and out.unique().tolist() == [7.0]
    assert (decision.calls, decision.fell_back) == (3, 3) and decision.used == f"{registry.HOST} (stand_in)"
    ((key, calls),) = summarise(stats).fallbacks.items()
    assert key == (SELF, rule["backend"], decision.reason) and calls == 3
    assert re.search(reason, decision.reason)
