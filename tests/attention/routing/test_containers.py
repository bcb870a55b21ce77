"""q, k and v in the host's containers: who gets them closed, who opens them, and that nobody holds on to a tensor.

The host is a stand-in, see newer_host.py. So is comfy-kitchen's kernel, behind our own adapter: it needs no GPU here.
"""

from __future__ import annotations

import weakref

import pytest
import torch
from container_calls import call, counted, decision_of, draw, make
from newer_host import HEADS, SLOT, Container, Recording, attention_exact, newer

from attention.backends import registry
from attention.guidance.strength import Strength
from attention.routing.router import Router
from attention.routing.rules import GUARD_EVERY, GUARD_FIRST, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)


# --- what is freed ---------------------------------------------------------------------------------------------------


def owned(shape):
    """A tensor and a weak reference to its memory, which lives as long as any view of it."""
    memory = torch.randn(shape).numpy().copy()
    return torch.from_numpy(memory), weakref.ref(memory)


LAYOUTS = {
    "(B, L, H*D)": (False, lambda: owned((2, 8, HEADS * 16)), lambda t: t),
    "(B, H, L, D)": (True, lambda: owned((2, HEADS, 8, 16)), lambda t: t),
    "a view of (L, H, D)": (True, lambda: owned((8, HEADS, 16)), lambda t: t.transpose(0, 1).unsqueeze(0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("split_out", [False, True])
@pytest.mark.parametrize("options", [{}, {"timing": True}, {"guard": GUARD_FIRST}], ids=str)
def test_inputs_are_freed_before_the_attention(install, layout, split_out, options):
    split_in, make_one, view = LAYOUTS[layout]
    library, router, stats = install(), make(**options), counted()
    for turn in range(3):
        tensors, library.watch = zip(*(make_one() for _ in range(3)))
        tensors = [view(t) for t in tensors]
        expected = attention_exact(*tensors, HEADS, skip_reshape=split_in, skip_output_reshape=split_out)
        containers = [Container(tensors.pop(0)) for _ in range(3)]
        out = newer(attention_exact)(
            *containers, HEADS, skip_reshape=split_in, skip_output_reshape=split_out, scale=0.25,
            transformer_options={SLOT: router, CONTEXT: stats.context},
        )  # fmt: skip
        torch.testing.assert_close(out, expected)
        assert all(ref() is None for ref in library.watch), "nothing is left behind after the call"
        # The first call is looked at, and must be able to fall back.
        if turn:
            assert library.held == [False, False, False]
    # With timing the kernel is measured beside the host's own before its first call.
    measured, stages = library.stages[:-5], library.stages[-5:]
    assert stages == ["whole", *2 * ["first", "second"]] and set(measured) <= (
        {"whole"} if options.get("timing") else set()
    )
    decision = decision_of(stats)
    assert (decision.used, decision.calls, decision.fell_back) == ("test", 3, 0)
    assert len(decision.spans) == (3 if options.get("timing") else 0)


def test_a_tensor_that_somebody_holds_is_seen(install):
    # Else the test above could pass with a watch that sees nothing.
    library, router, stats = install(), make(), counted()
    (tensor, ref), (k, v) = owned((2, 8, HEADS * 16)), draw()[:2]
    for _ in range(2):
        library.watch = [ref]
        call(router, [tensor, k, v], stats)
    assert library.held == [True] and tensor.shape == (2, 8, 48)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("split", [False, True])
def test_the_same_as_without_containers(install, masked, split):
    library, router, stats, tensors = install(), make(), counted(), draw(split, torch.float16)
    kw = {"mask": torch.randn(2, 1, 1, 8) if masked else None, "skip_reshape": split, "scale": 0.3}
    options = {SLOT: router, CONTEXT: stats.context}
    newer(attention_exact)(*tensors, HEADS, transformer_options=options, **kw)
    closed, _ = call(router, tensors, stats, **kw)
    assert torch.equal(newer(attention_exact)(*tensors, HEADS, transformer_options=options, **kw), closed)
    assert library.stages == ["whole", "first", "second", "whole"]
    assert decision_of(stats).calls == 3, "one decision for both ways"


def test_torch_compile_leaves_the_router_alone(install):
    """What is compiled makes the containers; the router opens them as ever."""
    library, router, stats = install(), make(), counted()

    @torch.compile(backend="eager")
    def model(x):
        containers = [Container(x * n) for n in (1.0, 2.0, 3.0)]
        out = router.container_function(*containers, HEADS, transformer_options={CONTEXT: stats.context})
        return out + 1

    x = torch.randn(2, 8, HEADS * 16)
    with torch.inference_mode():
        for _ in range(3):
            torch.testing.assert_close(model(x), attention_exact(x, x * 2, x * 3, HEADS) + 1)
    assert decision_of(stats).calls == 3 and library.stages == ["whole", *2 * ["first", "second"]]


# --- what is not taken apart -----------------------------------------------------------------------------------------

WHOLE = {
    "a guard on every call": ({"guard": GUARD_EVERY}, {}),
    "wider arithmetic": ({}, {"attn_precision": torch.float64}),
    "a strength": ({}, {}),
}


@pytest.mark.parametrize("why", WHOLE)
def test_some_calls_need_their_inputs_to_the_end(install, why):
    rule, kw = WHOLE[why]
    library, router, stats, tensors = install(), make(**rule), RunStats(), draw()
    if why == "a strength":
        router = router.with_rule(Rule(strength=Strength(temperature=0.5)))
    out, containers = call(router, tensors, stats, **kw)
    q = tensors[0] * 2 if why == "a strength" else tensors[0]
    torch.testing.assert_close(out, attention_exact(q, *tensors[1:], HEADS))
    assert library.stages == ["whole"] and all(c.tensor is None for c in containers)
    assert (decision_of(stats).used, decision_of(stats).fell_back) == ("test", 0)


def test_a_kernel_of_one_stage(install, monkeypatch):
    library, stats, tensors = install(), RunStats(), draw()
    monkeypatch.setitem(registry._LOADED, "test", lambda *t, mask=None, scale=None: library.int8_attention(*t))
    torch.testing.assert_close(call(make(), tensors, stats)[0], attention_exact(*tensors, HEADS))
    assert library.stages == ["whole"] and decision_of(stats).used == "test"


REFUSED = {
    "no rule covers it": ({"role": "cross"}, {}),
    "host default": ({"backend": registry.HOST}, {}),
    "refused": ({}, {"head_dims": (64,)}),
    "cleared": (None, {}),
}


@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("opens", [False, True])
@pytest.mark.parametrize("where", ["host", "previous"])
def test_what_is_not_ours_goes_on(install, why, opens, where):
    """Closed to who opens containers, taken out for who does not; and an override gets the function it may call."""
    rule, limits = REFUSED[why]
    library, other = install(**limits), Recording("container_function" if opens else "")
    host = other if where == "host" else newer(attention_exact)
    previous = other if where == "previous" else None
    router, stats = make(previous, host, **(rule or {})), RunStats()
    if rule is None:
        router = Router((), router.previous, router.host)
    tensors = draw()
    out, containers = call(router, tensors, stats)
    assert torch.equal(out, tensors[0]) and not library.stages
    func = host if where == "previous" and not opens else None
    assert other.seen == [(func, opens, True)]
    assert (containers[1].tensor is None) is not opens
    if rule is not None:
        reason = "head size 16, takes 64" if limits else None
        assert (decision_of(stats).reason, decision_of(stats).fell_back) == (reason, 1 if limits else 0)


def test_an_override_with_the_name_and_nothing_in_it(install):
    install()
    other = Recording()
    other.container_function = None
    call(make(other, role="cross"), draw())
    assert [(func is not None, closed) for func, closed, _ in other.seen] == [(True, False)]


def test_a_router_below_a_router(install):
    """Another pack between two of ours that hands containers down."""
    library, stats, tensors, router = install(), counted(), draw(), make(previous=make(), role="cross")
    for _ in range(2):
        out, _ = call(router, tensors, stats)
        torch.testing.assert_close(out, attention_exact(*tensors, HEADS))
    assert library.stages == ["whole", "first", "second"] and len(stats.decisions) == 2


def test_without_a_host_no_containers():
    """The host looks for the name; without it, it takes the tensors out and gives the function along."""
    assert not hasattr(Router((Rule(),)), "container_function")
    router = make()
    for other in (router, router.with_rule(Rule())):
        assert callable(other.container_function) and other.host is router.host
