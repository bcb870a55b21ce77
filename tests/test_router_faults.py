"""Random calls and random faults through the router: the right numbers always come out, and every fault is reported."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention import registry
from attention.backend import Backend, Limits
from attention.report import summarise, to_text
from attention.router import SITE, TALLY, Router
from attention.rules import GUARD_EVERY, IN_ORDER, Rule
from attention.site import CROSS, SELF, Site
from attention.tally import Tally

torch.set_num_threads(1)

# As in test_backends.py.
TOLERANCE = {torch.float64: 4e-15, torch.float32: 1.5e-6, torch.float16: 9e-4, torch.bfloat16: 7e-3}
ON_CPU = [
    name for name in registry.names() if name != "flex" and registry.get(name).limits.devices in ((), ("cuda", "cpu"))
]


def exact(q, k, v, bias=None, scale=None):
    """Float64, three lines. q: (B, H, Lq, D); k, v: (B, Hkv, Lk, D); bias: (B, H, Lq, Lk) float64."""
    k, v = (t.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1) for t in (k, v))
    scores = q.double() @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (scores if bias is None else scores + bias).softmax(dim=-1) @ v


def to_host(t, split):
    """(B, H, L, D) in the host's layout."""
    return t if split else t.transpose(1, 2).flatten(2)


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
    dtype=st.sampled_from(tuple(TOLERANCE)),
    scale=st.sampled_from((None, 0.1, 0.7)),
    split_in=st.booleans(),
    split_out=st.booleans(),
    seed=st.integers(0, 2**31),
)


def mask_of(shape: Shape):
    """The mask as the host would pass it and as a float64 bias of four axes; None, None without."""
    if not shape.mask:
        return None, None
    full = {"B": shape.batch, "H": shape.kv_heads * shape.group, "N": shape.q_len, "M": shape.kv_len}
    axes = [size if name in shape.mask else 1 for name, size in full.items()]
    if shape.kind == "bias":
        mask = torch.randn(axes).to(shape.dtype)
        return mask, mask.double()
    seen = torch.rand(axes) < 0.5
    seen[..., 0] = True
    bias = torch.zeros(axes, dtype=torch.float64).masked_fill(~seen, -torch.inf)
    return (seen if shape.kind == "bool" else bias.clamp(min=torch.finfo(shape.dtype).min).to(shape.dtype)), bias


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, name=st.sampled_from((*ON_CPU, registry.AUTO)))
def test_any_call_equals_float64(shape, name):
    torch.manual_seed(shape.seed)
    heads = shape.kv_heads * shape.group
    sizes = ((heads, shape.q_len), (shape.kv_heads, shape.kv_len), (shape.kv_heads, shape.kv_len))
    split = [torch.randn(shape.batch, h, n, shape.head_dim).to(shape.dtype) for h, n in sizes]
    mask, bias = mask_of(shape)
    truth = exact(*split, bias, shape.scale)
    given_tensors = [to_host(t, shape.split_in) for t in split]
    before = [t.clone() for t in given_tensors] + ([] if mask is None else [mask.clone()])

    def host(q, k, v, heads, skip_output_reshape=False, **kw):
        return to_host(truth.to(q.dtype), skip_output_reshape)

    tally = Tally()
    out = Router((Rule(backend=name, choice=IN_ORDER),))(
        host, *given_tensors, heads, mask, None, shape.split_in, shape.split_out,
        scale=shape.scale, transformer_options={TALLY: tally},
    )  # fmt: skip
    (record,) = tally.records.values()
    refused = name == "sdpa flash" and shape.group > 1
    assert (record.fell_back, record.reason) == ((1, "grouped-query attention") if refused else (0, None))
    assert out.dtype == shape.dtype and out.shape == to_host(truth, shape.split_out).shape
    # Relative to what the weighted values add up to in size: their signed sum may cancel to nearly nothing.
    q, k, v = split
    size = exact(q, k, v.abs(), bias, shape.scale).norm()
    assert (out.double() - to_host(truth, shape.split_out)).norm() <= TOLERANCE[shape.dtype] * size
    after = [*given_tensors, *([] if mask is None else [mask])]
    assert all(torch.equal(a, b) for a, b in zip(before, after))


FAULTS = {
    "raise": "RuntimeError: a fault",
    "nan": "NaN or Inf in the output",
    "shape": "ValueError: output shape (1, 2, 3, 4) instead of (1, 2, {n}, 8)",
    "nothing": "AttributeError: 'NoneType' object has no attribute 'shape'",
    "clone": None,  # writes into its own copies: no fault, and the caller must not notice
    "": None,
}


class Faulty:
    """An exact kernel that fails as its schedule says; the schedule is what the test compares the report with."""

    def __init__(self):
        self.next = ""

    def __call__(self, q, k, v, mask=None, scale=None):
        fault = self.next
        if fault == "raise":
            raise RuntimeError("a fault")
        if fault == "nothing":
            return None
        if fault == "shape":
            return torch.zeros(1, 2, 3, 4)
        if fault == "clone":
            q, k, v = q.clone(), k.clone(), v.clone()
            out = exact(q, k, v).to(q.dtype)
            for t in (q, k, v):
                t.zero_()
            return out
        out = exact(q, k, v).to(q.dtype)
        if fault == "nan":
            out[0, 1, 0, 3] = torch.nan
        return out


SITES = (Site("LTXV", SELF, 0), Site("LTXV", SELF, 1), Site("LTXV", CROSS, 1))


def host(q, k, v, heads, mask=None, skip_output_reshape=False, **kw):
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    return to_host(exact(*split).to(q.dtype), skip_output_reshape)


@pytest.fixture
def faulty(monkeypatch):
    kernel = Faulty()
    monkeypatch.setitem(registry._BY_NAME, "faulty", Backend("faulty", "A test's.", Limits(), load=lambda: kernel))
    monkeypatch.setitem(registry._LOADED, "faulty", kernel)
    return kernel


def run_schedule(kernel, plan):
    """Runs (site, length, fault) one after another; returns the tally and what the report must say."""
    router, tally = Router((Rule(backend="faulty", guard=GUARD_EVERY),)), Tally()
    failed, expected = {}, Counter()
    for site, length, fault in plan:
        kernel.next = fault
        q, k, v = torch.randn(1, 4, 16), torch.randn(1, length, 16), torch.randn(1, length, 16)
        before = [t.clone() for t in (q, k, v)]
        out = router(host, q, k, v, 2, transformer_options={TALLY: tally, SITE: site})
        assert torch.equal(out, host(q, k, v, 2)), fault
        assert all(torch.equal(a, b) for a, b in zip(before, (q, k, v)))
        reason = FAULTS[fault] and FAULTS[fault].format(n=4)
        if (site, length) not in failed and reason:
            failed[site, length] = reason
        if (site, length) in failed:
            expected[site.role, "faulty", failed[site, length]] += 1
    return tally, expected


@pytest.mark.parametrize("seed", range(200))
def test_every_fault_is_survived_and_reported(faulty, seed):
    dice = random.Random(seed)
    plan = [
        (dice.choice(SITES), dice.choice((4, 6)), dice.choice(tuple(FAULTS)) if dice.random() < 0.4 else "")
        for _ in range(20)
    ]
    tally, expected = run_schedule(faulty, plan)
    report = summarise(tally)
    assert report.fallbacks == expected and report.calls == len(plan)
    assert report.ruled == len(plan) - expected.total()
    text = to_text(report)
    assert all(reason in text for _, _, reason in expected)
    calls = Counter((id(site), length) for site, length, _ in plan)
    assert sorted(calls.values()) == sorted(record.calls for record in tally.records.values())


def test_the_schedules_hold_every_fault():
    # Else the test above could pass without one.
    drawn = Counter()
    for seed in range(200):
        dice = random.Random(seed)
        for _ in range(20):
            dice.choice(SITES), dice.choice((4, 6))
            drawn[dice.choice(tuple(FAULTS)) if dice.random() < 0.4 else ""] += 1
    assert all(drawn[fault] > 100 for fault in FAULTS)
