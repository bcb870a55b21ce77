"""What a kernel gives: NaN that it is or is not to blame for, and outputs that are none; and interrupts, which pass."""

from __future__ import annotations

import pytest
import torch
from faulty_kernels import draw, exactly, only, run
from stand_in_host import host, to_host

from attention.inspect.report import summarise
from attention.inspect.report_text import to_text
from attention.routing import guarded_run
from attention.routing.rules import GUARD_EVERY, GUARDS, Rule
from attention.routing.run_stats import RunStats

torch.set_num_threads(1)
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("guard", [GUARD_EVERY, "first call"])
@pytest.mark.parametrize(("which", "value"), [(0, NAN), (0, INF), (1, NAN), (2, NAN), (2, INF), (3, NAN)])
def test_a_kernel_is_not_blamed_for_what_came_in(add, guard, which, value):
    def kernel(q, k, v, mask=None, scale=None):
        bias = 0 if mask is None else mask.double()
        return ((q.double() @ k.double().mT / 4 + bias).softmax(-1) @ v.double()).to(q.dtype)

    add(kernel)
    tensors, mask, stats = draw(), torch.zeros(1, 1, 24, 24), RunStats()
    if which < 3:
        tensors[which][1, 3, 20] = value
    else:
        mask[..., 5, 7] = value
    for _ in range(3):
        out = run(tensors, Rule("test", guard=guard), stats, mask)
    assert not torch.isfinite(out).all() and torch.isfinite(out).any()
    decision, report = only(stats), summarise(stats)
    assert (decision.used, decision.fell_back, report.ruled) == ("test", 0, 3)
    (note,) = report.notes
    assert "test is not to blame" in note and note in to_text(report)
    clean = run(draw(), Rule("test", guard=guard), stats, torch.zeros(1, 1, 24, 24))
    assert torch.isfinite(clean).all() and only(stats).guard is (guard == GUARD_EVERY)


@pytest.mark.parametrize("row", [3, 4])
def test_it_is_blamed_for_more_than_came_in(add, row):
    def kernel(q, k, v, mask=None, scale=None):
        out = exactly(q, k, v)
        out[1, 1, row] = NAN
        return out

    add(kernel)
    tensors, stats = draw(), RunStats()
    tensors[0][1, 3, 20] = NAN  # one query of one head
    run(tensors, stats=stats)
    assert only(stats).fell_back == (row != 3) and only(stats).reason == (None if row == 3 else guarded_run.NOT_FINITE)


def test_not_where_the_host_s_own_is_no_better(add):
    """Scores that overflow wherever they are computed, say: nothing that came in explains it."""

    def nan(q, k, v, mask=None, scale=None):
        return torch.full_like(q, NAN)

    def own(q, k, v, heads, skip_output_reshape=False, **kw):
        return to_host(torch.full((2, 2, 24, 16), INF), skip_output_reshape)

    add(nan)
    stats = RunStats()
    run(draw(), stats=stats, own=own)
    assert (only(stats).used, only(stats).fell_back) == ("test", 0) and "not to blame" in stats.notes[0]
    run(draw(), stats=stats)
    assert (only(stats).reason, only(stats).fell_back) == (guarded_run.NOT_FINITE, 1)


ODD = {
    "whole numbers": (lambda q, k, v: torch.ones_like(q, dtype=torch.int64), "output of int64"),
    "true and false": (lambda q, k, v: torch.ones_like(q, dtype=torch.bool), "output of bool"),
    "complex": (lambda q, k, v: exactly(q, k, v) + 0j, "output of complex64"),
    "another device": (lambda q, k, v: torch.empty_like(q, device="meta"), "output on meta, the inputs are on cpu"),
    "too few heads": (lambda q, k, v: exactly(q, k, v)[:, :1], "output shape (2, 1, 24, 16) instead of"),
    "nothing": (lambda q, k, v: None, "AttributeError"),
    "q itself": (lambda q, k, v: q, "shares memory with its inputs"),
    "a view of v": (lambda q, k, v: v[:, :], "shares memory with its inputs"),
    "one row for all": (lambda q, k, v: torch.ones(1, 1, 1, 16).expand_as(q), "no tensor with memory for each number"),
    "a pair": (lambda q, k, v: (exactly(q, k, v), None), "AttributeError"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("guard", GUARDS)
def test_odd_outputs_are_refused(add, kind, guard):
    give, said = ODD[kind]
    add(lambda q, k, v, mask=None, scale=None: give(q, k, v))
    tensors, stats = draw(), RunStats()
    assert torch.equal(run(tensors, Rule("test", guard=guard), stats), host(*tensors, 2))
    assert said in only(stats).reason


class Stop(BaseException):
    """A stand-in for the host's InterruptProcessingException."""


@pytest.mark.parametrize("stop", [Stop, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", [1, 2])
def test_interrupts_pass(add, stop, call):
    calls = []

    def kernel(q, k, v, mask=None, scale=None):
        calls.append(1)
        if len(calls) == call:
            raise stop
        return exactly(q, k, v)

    add(kernel)
    stats = RunStats()
    for _ in range(call - 1):
        run(draw(), stats=stats)
    with pytest.raises(stop):
        run(draw(), stats=stats)
    assert only(stats).used == "test"
