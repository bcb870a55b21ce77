"""Every backend of the table: its answers are what its Limits say, and what it accepts here it computes rightly.

Nothing here names a row: a backend that is added to backends.TABLE is tried as soon as it stands there.
"""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random

import pytest
import torch
import truth
from hypothesis import given, settings
from hypothesis import strategies as st

from attention.backends import TABLE, registry
from attention.backends.spec import ANY, DEFAULT, EVERY_DEVICE, POSITIVE, Limits
from attention.core.geometry import MASKS, Geometry, describe
from attention.core.reason import Reason
from attention.core.reference import relative_l2

torch.set_num_threads(1)

ROWS = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
ON_CPU = [row for row in TABLE if row.limits.runs_on("cpu") and registry.why_not(row.name) is None]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# A quantised kernel that promises no error of its own.
QUANTISED = 0.03


def default_scale(geometry) -> bool:
    return geometry.scale is None or abs(geometry.scale * geometry.head_dim**0.5 - 1) < 1e-6


# What the docstring of Limits says, once more: fields -> whether a call is beyond them. Each is one reason.
BEYOND = {
    ("devices", "amd"): lambda limits, call: limits.devices != EVERY_DEVICE
    and (call.device not in limits.devices or (call.amd is not None and not call.amd.startswith(limits.amd))),
    ("min_capability",): lambda limits, call: call.capability is not None and call.capability < limits.min_capability,
    ("exact",): lambda limits, call: not limits.exact and (call.high_precision or not call.low_precision),
    ("dtypes",): lambda limits, call: call.dtype not in limits.dtypes,
    ("grad",): lambda limits, call: call.grad and not limits.grad,
    (): lambda limits, call: min(call.batch, call.heads, call.q_len, call.kv_len, call.head_dim) == 0,
    ("head_dims", "head_dim_multiple"): lambda limits, call: call.head_dim not in limits.head_dims
    or call.head_dim % limits.head_dim_multiple > 0,
    ("masks",): lambda limits, call: call.mask not in limits.masks,
    ("gqa",): lambda limits, call: call.kv_heads != call.heads and not limits.gqa,
    ("kv_multiple",): lambda limits, call: call.kv_len % limits.kv_multiple > 0,
    ("scale",): lambda limits, call: not {
        ANY: True, POSITIVE: call.scale is None or call.scale > 0, DEFAULT: default_scale(call),
    }[limits.scale],
    ("max_batch",): lambda limits, call: 0 < limits.max_batch < call.batch,
    ("max_batch_heads",): lambda limits, call: 0 < limits.max_batch_heads < call.batch * call.heads,
    ("max_scores",): lambda limits, call: 0
    < limits.max_scores
    < call.batch * call.heads * call.q_len * call.kv_len,
}  # fmt: skip
# `auto` alone reads it: a kernel that is named runs short calls too.
FOR_AUTO = {"useful_from"}


def around(*limits: int) -> tuple[int, ...]:
    """Numbers at limits and beside them."""
    return tuple(sorted({max(number + step, 0) for number in limits for step in (-1, 0, 1)}))


def drawn(limits: Limits, random: Random) -> Geometry:
    """Some call; half of its sizes stand at the row's own limits."""
    dims = limits.head_dims
    near = around(dims[0], dims[-1], limits.head_dim_multiple)
    device = random.choice(("cuda", "cuda", "cpu", "mps"))
    of_nvidia = around(*limits.min_capability)
    amd = random.choice((None, None, "gfx1100", "gfx942", "gfx1030")) if device == "cuda" else None
    heads, head_dim = random.choice((1, 4, 32)), random.choice((*near, 64, 128, 40))
    return Geometry(
        batch=random.choice((1, 2, 0, *around(limits.max_batch, limits.max_batch_heads // heads))),
        heads=heads,
        kv_heads=random.choice((heads, heads, 1)),
        q_len=random.choice((64, 77, 6144, 75600, *around(limits.max_scores // (heads * 6144)))),
        kv_len=random.choice((64, 77, 0, 6144, 170_000, *around(limits.kv_multiple))),
        head_dim=head_dim,
        dtype=random.choice((*FLOATS, torch.bfloat16, torch.float8_e4m3fn)),
        device=device,
        mask=random.choice(MASKS),
        scale=random.choice((None, None, max(head_dim, 1) ** -0.5, 0.3, -0.3)),
        low_precision=random.random() < 0.7,
        high_precision=random.random() < 0.3,
        capability=(random.choice(of_nvidia), random.choice((0, 5, 6, 9))) if device == "cuda" and not amd else None,
        grad=random.random() < 0.3,
        amd=amd,
    )


def fitting(limits: Limits) -> Geometry:
    """A small call within all limits."""
    device = "cpu" if limits.runs_on("cpu") else limits.devices[0]
    sizes = (size for size in (64, *limits.head_dims) if size in limits.head_dims)
    head_dim = next(size for size in sizes if size % limits.head_dim_multiple == 0)
    capability = limits.min_capability if device == "cuda" else None
    return Geometry(
        1, 2, 2, 64, 64 * limits.kv_multiple, head_dim, limits.dtypes[0], device, limits.masks[0], capability=capability
    )


def test_every_limit_is_one_that_can_be_exceeded():
    """A field that is added to Limits belongs in BEYOND, or nobody asks whether it is kept."""
    told = [name for names in BEYOND for name in names]
    assert sorted((*told, *FOR_AUTO)) == sorted(field.name for field in fields(Limits))


@ROWS
def test_its_answers_are_its_limits(row):
    @settings(max_examples=60)
    @given(st.randoms(use_true_random=False))
    def agree(random):
        call = drawn(row.limits, random)
        beyond = [names for names, is_beyond in BEYOND.items() if is_beyond(row.limits, call)]
        limits, told = list(row.limits.reasons(call)), row.reasons(call)
        assert len(limits) == len(beyond), (call, beyond, limits)
        assert list(told[: len(limits)]) == limits and next(iter(told), None) == row.refuses(call)
        assert all(isinstance(reason, Reason) for reason in told) and len(set(told)) == len(told)
        # Whose hardware is another one cannot say more of itself.
        hardware = {("devices", "amd"), ("min_capability",)} & set(beyond)
        assert len(told) == len(limits) or not (hardware or row.other_reasons is None), told

    agree()


@ROWS
def test_it_takes_a_call_within_its_limits(row):
    assert row.reasons(fitting(row.limits)) == ()


@pytest.mark.parametrize("field", [field.name for field in fields(Geometry)])
def test_some_row_asks_for_every_part_of_a_geometry(field):
    """What no row's answer depends on is not what backends decide by."""
    random = Random(0)
    for _ in range(300):
        for row in TABLE:
            call = drawn(row.limits, random)
            other = replace(fitting(row.limits), **{field: getattr(call, field)})
            if row.reasons(other) != row.reasons(fitting(row.limits)):
                return
    pytest.fail(f"no backend's answer depends on Geometry.{field}")


# --- what a row accepts on this machine ------------------------------------------------------------------------------


def mask_of(kind: str, q, k, bias: bool) -> torch.Tensor | None:
    """A mask of this kind for the tensors of a call: bool, or added. Every query sees a key."""
    if kind == "none":
        return None
    seen = torch.rand(q.shape[0], 1, 1 if kind == "key" else q.shape[2], k.shape[2]) < 0.6
    seen[..., 0] = True
    return torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, -torch.inf) if bias else seen


CALLS = st.fixed_dictionaries({
    "batch": st.integers(1, 2),
    "heads": st.sampled_from(((2, 2), (4, 2), (3, 1), (1, 1))),
    "q_len": st.integers(2, 70),
    "kv_len": st.integers(1, 90),
    "head_dim": st.sampled_from((1, 8, 17, 40, 64, 72)),
    "dtype": st.sampled_from(FLOATS),
    "mask": st.sampled_from(MASKS),
    "bias": st.booleans(),
    "scale": st.sampled_from((None, 0.3, -0.2)),
    "grad": st.booleans(),
    "seed": st.integers(0, 1000),
})  # fmt: skip


def tried(row, how) -> str | None:
    """Runs one call on a row, against float64; the reason where it refuses."""
    torch.manual_seed(how["seed"])
    heads, kv_heads = how["heads"]
    shapes = ((heads, how["q_len"]), (kv_heads, how["kv_len"]), (kv_heads, how["kv_len"]))
    q, k, v = (torch.randn(how["batch"], *shape, how["head_dim"]).to(how["dtype"]) for shape in shapes)
    for t in (q, k, v):
        t.requires_grad_(how["grad"])
    mask = mask_of(how["mask"], q, k, how["bias"])
    call = describe(q, k, v, mask, scale=how["scale"])
    assert (call.mask, call.grad) == (how["mask"], how["grad"])
    reason = row.refuses(call)
    if reason:
        return reason
    out, expected = registry.load(row.name)(q, k, v, mask, how["scale"]), truth.attention(q, k, v, mask, how["scale"])
    assert out.dtype == q.dtype and out.shape == q.shape
    if row.limits.exact:
        # With a head size of one the values may cancel; and the truth is rounded to float64 as well.
        rounding = 4 if how["dtype"] == torch.float64 else 1
        assert truth.excess(out.detach(), expected, expected.size) < rounding
    else:
        assert relative_l2(out.detach(), expected.out.detach()) < (row.promise or QUANTISED)
    if how["grad"]:
        # What each value weighs: a sum over all queries in which nothing cancels.
        made, right = (torch.autograd.grad(each.double().sum(), v)[0] for each in (out, expected.out))
        assert relative_l2(made, right) < min(64 * torch.finfo(v.dtype).eps, 0.05)
    return None


@pytest.mark.parametrize("row", ON_CPU, ids=lambda row: row.name)
def test_what_it_accepts_it_computes(row):
    ran = []

    @settings(max_examples=25)
    @given(CALLS)
    def right_or_refused(how):
        ran.append(tried(row, how) is None)

    right_or_refused()
    assert any(ran), "no call was for it"
