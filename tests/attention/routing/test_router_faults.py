"""Random calls and random faults through the router: the right numbers always come out, and every fault is reported."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
import truth
from hypothesis import given, settings
from hypothesis import strategies as st
from open_limits import open_limits
from stand_in_host import ON_CPU, exact, host, to_host

from attention.backends import registry
from attention.backends.spec import Backend
from attention.core.reason import Reason
from attention.core.site import CROSS, SELF, SITE, AttentionSite
from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import decide
from attention.routing.router import Router
from attention.routing.rules import GUARD_EVERY, IN_ORDER, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Shape:
    """One random call; mask: axes of the mask that span their dimension, "" none at all."""

    batch: int
    kv_heads: int
    group: int
    q_len: int
    kv_len: int
    head_dim: int
    mask: str
    kind: str
    dtype: torch.dtype
    scale: float | None
    split_in: bool
    split_out: bool
    seed: int


LENGTHS = st.one_of(st.integers(1, 40), st.sampled_from((64, 77, 126, 128)))
SHAPES = st.builds(
    Shape,
    batch=st.integers(1, 2),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    q_len=LENGTHS,
    kv_len=LENGTHS,
    head_dim=st.sampled_from((1, 8, 17, 40, 64, 80)),
    mask=st.sampled_from(("", "M", "BM", "NM", "BNM", "HNM", "BHNM")),
    kind=st.sampled_from(("bool", "lowest", "bias")),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from((None, 0.1, 0.7)),
    split_in=st.booleans(),
    split_out=st.booleans(),
    seed=st.integers(0, 2**31),
)


def mask_of(shape: Shape):
    """The mask as the host would pass it, or None."""
    if not shape.mask:
        return None
    full = {"B": shape.batch, "H": shape.kv_heads * shape.group, "N": shape.q_len, "M": shape.kv_len}
    axes = [size if name in shape.mask else 1 for name, size in full.items()]
    if shape.kind == "bias":
        return torch.randn(axes).to(shape.dtype)
    seen = torch.rand(axes) < 0.5
    seen[..., 0] = True
    lowest = torch.finfo(shape.dtype).min
    return seen if shape.kind == "bool" else torch.zeros(axes, dtype=shape.dtype).masked_fill(~seen, lowest)


@settings(max_examples=150)
@given(shape=SHAPES, name=st.sampled_from((*ON_CPU, registry.AUTO)))
def test_any_call_equals_float64(shape, name):
    torch.manual_seed(shape.seed)
    heads = shape.kv_heads * shape.group
    sizes = ((heads, shape.q_len), (shape.kv_heads, shape.kv_len), (shape.kv_heads, shape.kv_len))
    split = [torch.randn(shape.batch, h, n, shape.head_dim).to(shape.dtype) for h, n in sizes]
    mask = mask_of(shape)
    expected = truth.attention(*split, mask, shape.scale)
    given_tensors = [to_host(t, shape.split_in) for t in split]
    before = [t.clone() for t in given_tensors] + ([] if mask is None else [mask.clone()])

    def host(q, k, v, heads, skip_output_reshape=False, **kw):
        return to_host(expected.out.to(q.dtype), skip_output_reshape)

    stats = RunStats()
    out = Router((Rule(backend=name, choice=IN_ORDER),))(
        host, *given_tensors, heads, mask, None, shape.split_in, shape.split_out,
        scale=shape.scale, transformer_options={CONTEXT: stats.context},
    )  # fmt: skip
    (decision,) = stats.decisions.values()
    refused = name == "sdpa flash" and shape.group > 1
    assert (decision.fell_back, decision.reason) == ((1, "grouped-query attention") if refused else (0, None))
    assert out.dtype == shape.dtype and out.shape == to_host(expected.out, shape.split_out).shape
    if not shape.split_out:
        out = out.unflatten(-1, (heads, -1)).transpose(1, 2)
    # A handful of weighted values may cancel to nearly nothing: measured against what they add up to in size.
    assert truth.excess(out, expected, 2 * expected.size) < 1
    after = [*given_tensors, *([] if mask is None else [mask])]
    assert all(torch.equal(a, b) for a, b in zip(before, after))


FAULTS = {
    "raise": "RuntimeError: a fault",
    "nan": "NaN or Inf in the output",
    "inf": "NaN or Inf in the output",
    "shape": "ValueError: output shape (1, 2, 3, 4) instead of (1, 2, {n}, 8)",
    "nothing": "AttributeError: 'NoneType' object has no attribute 'shape'",
    # No faults: the caller must not notice.
    "clone": None,  # writes into its own copies
    "dtype": None,  # answers in another dtype
    "strided": None,  # answers with a view of a larger buffer
    "": None,
}
GONE = Reason("faulty is not installed any more")


class Faulty:
    """An exact kernel that fails as its schedule says; the schedule is what the test compares the report with."""

    def __init__(self):
        self.next = ""

    def __call__(self, q, k, v, mask=None, scale=None):
        fault, out = self.next, exact(q, k, v)
        if fault == "raise":
            raise RuntimeError("a fault")
        if fault == "nothing":
            return None
        if fault == "shape":
            return torch.zeros(1, 2, 3, 4)
        if fault == "dtype":
            return out
        if fault == "clone":
            for t in (q, k, v):
                t.clone().zero_()
        if fault in ("nan", "inf"):
            out[0, 1, 0, 3] = float(fault)
        if fault == "strided":
            out = torch.stack((out, out + 1), dim=-1)[..., 0]
        return out.to(q.dtype)


SITES = (AttentionSite("LTXV", SELF, 0), AttentionSite("LTXV", SELF, 1), AttentionSite("LTXV", CROSS, 1))


@pytest.fixture
def faulty(monkeypatch):
    kernel = Faulty()
    monkeypatch.setitem(registry._BY_NAME, "faulty", Backend("faulty", "A test's.", open_limits(), load=lambda: kernel))
    monkeypatch.setitem(registry._LOADED, "faulty", kernel)
    return kernel


def run_schedule(kernel, plan, gone=False):
    """One run of (site, length, fault), one after another; returns the stats and what the report must say.

    gone: the backend cannot be loaded in this run, though it could before.
    """
    registry._LOADED["faulty"] = GONE if gone else kernel
    router, stats = Router((Rule(backend="faulty", guard=GUARD_EVERY),)), RunStats()
    failed, expected = {}, Counter()
    for site, length, fault in plan:
        kernel.next = fault
        q, k, v = torch.randn(1, 4, 16), torch.randn(1, length, 16), torch.randn(1, length, 16)
        before = [t.clone() for t in (q, k, v)]
        out = router(host, q, k, v, 2, transformer_options={CONTEXT: stats.context, SITE: site})
        assert torch.equal(out, host(q, k, v, 2)), fault
        assert all(torch.equal(a, b) for a, b in zip(before, (q, k, v)))
        reason = GONE if gone else FAULTS[fault] and FAULTS[fault].format(n=4)
        if (site, length) not in failed and reason:
            failed[site, length] = reason
        if (site, length) in failed:
            expected[site.role, "faulty", failed[site, length]] += 1
    return stats, expected


def draw_runs(seed: int) -> list[tuple[list[tuple], bool]]:
    """Three runs of one model: 20 calls each with their faults, and whether the backend has disappeared."""
    dice = random.Random(seed)
    return [
        (
            [
                (dice.choice(SITES), dice.choice((4, 6)), dice.choice(tuple(FAULTS)) if dice.random() < 0.4 else "")
                for _ in range(20)
            ],
            dice.random() < 0.2,
        )
        for _ in range(3)
    ]


@pytest.mark.parametrize("seed", range(200))
def test_every_fault_is_survived_and_reported(faulty, seed):
    for plan, gone in draw_runs(seed):
        stats, expected = run_schedule(faulty, plan, gone)
        report = summarise(stats)
        assert report.fallbacks == expected and report.calls == len(plan)
        assert report.ruled == len(plan) - expected.total()
        text = to_text(report)
        assert all(reason in text for _, _, reason in expected)
        calls = Counter((id(site), length) for site, length, _ in plan)
        assert sorted(calls.values()) == sorted(decision.calls for decision in stats.decisions.values())


def test_the_schedules_hold_every_fault():
    # Else the test above could pass without one.
    runs = [run for seed in range(200) for run in draw_runs(seed)]
    drawn = Counter(fault for plan, _ in runs for _, _, fault in plan)
    assert all(drawn[fault] > 100 for fault in FAULTS) and 50 < sum(gone for _, gone in runs) < 250


@pytest.mark.parametrize(
    ("rule", "lost"),
    [(Rule("sdpa", CROSS), False), (Rule(registry.HOST), False), (Rule("sdpa"), True)],
    ids=["of others", "host", "sdpa"],
)
def test_a_call_that_could_not_be_decided_is_the_host_s(monkeypatch, rule, lost):
    """Only a rule that wants something else has lost something; else the run says it once."""

    def broken(*args):
        raise RuntimeError("no such thing")

    monkeypatch.setattr(decide, "_decide", broken)
    tensors, stats = tuple(torch.randn(2, 6, 8) for _ in range(3)), RunStats()
    assert torch.equal(
        Router((rule,))(host, *tensors, 2, transformer_options={CONTEXT: stats.context}), host(*tensors, 2)
    )
    (decision,) = stats.decisions.values()
    assert decision.calls == 1 and decision.kernel is None
    why = "it could not be decided (RuntimeError: no such thing)"
    assert (decision.reason == why, decision.fell_back) == ((True, 1) if lost else (False, 0))
    assert stats.notes == ([] if lost else [f"self-attention: {why}."])
