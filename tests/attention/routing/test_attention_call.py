"""The one object in which a call travels, and what stands in the host's slot: each answers as the host would."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from newer_host import HEADS, Container, attention_exact, newer

from attention.core.reference import scaled_dot_product_attention
from attention.core.site import SELF, SITE, AttentionSite
from attention.inspect.maps import Query, Watcher
from attention.plans import bench
from attention.plans.probe import Probe
from attention.routing import attention_call
from attention.routing.attention_call import AttentionCall, ContainerCall, Override
from attention.routing.router import Router
from attention.routing.rules import GUARD_OFF, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

PACK = Path(attention_call.__file__).resolve().parents[1]
LAYOUTS = list(itertools.product([False, True], [False, True]))
# How each of them is made where it has nothing to do.
MADE = {
    bench.Bench: bench.Bench,
    Probe: lambda previous=None: Probe({}, {}, previous),
    Router: lambda previous=None: Router((), previous),
    Watcher: lambda previous=None: Watcher(Query(), previous=previous),
}


def draw(split: bool) -> list[torch.Tensor]:
    return [torch.randn((2, HEADS, 6, 8) if split else (2, 6, HEADS * 8)) for _ in range(3)]


def truth(tensors, split_in: bool, split_out: bool) -> torch.Tensor:
    q, k, v = tensors if split_in else (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in tensors)
    out = scaled_dot_product_attention(q.double(), k.double(), v.double()).float()
    return out if split_out else out.transpose(1, 2).flatten(2)


def test_every_override_is_tried():
    assert set(MADE) == set(Override.__subclasses__())


@pytest.mark.parametrize("below", [False, True], ids=["alone", "above another"])
@pytest.mark.parametrize(("split_in", "split_out"), LAYOUTS)
@pytest.mark.parametrize("made", MADE.values(), ids=[kind.__name__ for kind in MADE])
def test_an_override_answers_as_the_host_in_the_layout_asked_for(made, split_in, split_out, below, monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *asked: ())  # its own tests time backends
    seen = []

    def another(func, q, *args, **kw):
        seen.append(q)
        return func(q, *args, **kw)

    tensors = draw(split_in)
    override = made(another if below else None)
    layout = {"skip_reshape": split_in, "skip_output_reshape": split_out}
    out = override(attention_exact, *tensors, HEADS, **layout, transformer_options={})
    assert torch.allclose(out, truth(tensors, split_in, split_out), atol=1e-5)
    assert [q is tensors[0] for q in seen] == [True] * below


@pytest.mark.parametrize(("split_in", "split_out"), LAYOUTS)
def test_a_call_runs_its_kernel_and_the_host_alike(split_in, split_out):
    tensors = draw(split_in)
    call = AttentionCall(attention_exact, *tensors, HEADS, split_in=split_in, split_out=split_out)
    heads = truth(tensors, split_in, True)
    out = call.run(scaled_dot_product_attention)
    assert torch.allclose(out, heads, atol=1e-5) and torch.allclose(call.run_host(), heads, atol=1e-5)
    assert torch.allclose(call.reply(out), truth(tensors, split_in, split_out), atol=1e-5)
    assert call.peek() is call.open() is call and not call.closed


def test_one_call_with_other_arguments_keeps_the_rest():
    q, k, v = draw(True)
    options = {"key": 1}
    call = AttentionCall(None, q, k, v, HEADS, None, torch.float64, True, False, {"transformer_options": options})
    other = call.but(q=k, kw={})
    assert other.q is k and other.k is k and other.precision is torch.float64 and other.split_in
    assert call.options is options and other.options == {} and call.q is q


def test_containers_are_looked_into_and_emptied_once():
    tensors = draw(True)
    call = ContainerCall(newer(attention_exact), *map(Container, tensors), HEADS, split_in=True)
    seen = call.peek()
    assert call.closed and not seen.closed and seen.q is tensors[0]
    assert call.open().v is tensors[2]
    for ask in (call.peek, call.open):
        with pytest.raises(RuntimeError):
            ask()


def test_q_keeps_its_way_from_the_override_to_the_kernel_short():
    """A routed call whose decision is known: q is held in four files, the kernel's and the layout's among them."""
    options = {SITE: AttentionSite("", SELF, 0), CONTEXT: RunStats().context}
    router, (q, k, v) = Router((Rule("sdpa", guard=GUARD_OFF),)), draw(True)
    ask = lambda: router(attention_exact, q, k, v, HEADS, skip_reshape=True, transformer_options=options)  # noqa: E731
    ask()
    files = {}

    def look(frame, event, _):
        path = Path(frame.f_code.co_filename).resolve()
        if event == "call" and PACK in path.parents:
            held = [
                getattr(value, "q", None) if isinstance(value, AttentionCall) else value
                for value in frame.f_locals.values()
            ]
            if any(each is q for each in held):
                files[path.name] = None

    sys.setprofile(look)
    try:
        ask()
    finally:
        sys.setprofile(None)
    assert list(files) == ["attention_call.py", "router.py", "tensor_layout.py", "sdpa.py"]
