"""Kernels and engines that write into their inputs, and then answer or fail.

Each stand-in does one thing that a real kernel of another build was seen to do; the right value is the host's own
attention on inputs as they were.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from faulty_kernels import draw, exactly, only, run
from stand_in_host import host

from attention import patterns, sparse
from attention.core.input_copies import InputCopies
from attention.core.site import SELF, AttentionSite
from attention.inspect.report import summarise
from attention.routing import guarded_run
from attention.routing.errors import UnsupportedAttention
from attention.routing.guarded_run import WRITES
from attention.routing.rules import ERROR, GUARD_EVERY, GUARD_OFF, GUARDS, IN_ORDER, MEASURE, Rule, Shape
from attention.routing.run_stats import RunStats
from attention.sparse import engine_registry

torch.set_num_threads(1)


# --- what a kernel does to its inputs --------------------------------------------------------------------------------

WRITERS = {
    "scales q": lambda q, k, v: q.mul_(3),
    "centres the keys": lambda q, k, v: k.sub_(k.mean(2, keepdim=True)),
    "zeroes the values of the last clip": lambda q, k, v: v[-1:].zero_(),
    "one number of the last head": lambda q, k, v: k[-1, -1, -1, -1:].add_(1),
    "NaN": lambda q, k, v: q[0, 0, 0].fill_(float("nan")),
}
THEN = {
    "answers": lambda out: out,
    "raises": lambda out: 1 / 0,
    "gives NaN": lambda out: out * float("nan"),
    "gives its q": lambda out: out[..., :1],
}


@pytest.mark.parametrize("writes", WRITERS)
@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("layout", ["plain", "packed", "one tensor"])
@pytest.mark.parametrize(("name", "guard"), [("test", GUARD_OFF), ("test", GUARD_EVERY), ("auto", GUARD_OFF)])
def test_a_kernel_that_writes_is_out_and_undone(add, writes, then, layout, name, guard):
    def kernel(q, k, v, mask=None, scale=None):
        out = exactly(q, k, v)
        WRITERS[writes](q, k, v)
        return THEN[then](out)

    add(kernel)
    tensors, stats = draw(layout), RunStats()
    before = [t.clone() for t in tensors]
    truth = host(*before, 2)
    for turn in (1, 2):
        assert torch.equal(run(tensors, Rule(name, guard=guard, choice=IN_ORDER), stats), truth)
        assert all(map(torch.equal, tensors, before)), "the model goes on with them"
        assert only(stats).fell_back == turn
    assert WRITES in only(stats).reason and ("ZeroDivisionError" in only(stats).reason) is (then == "raises")


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_a_mask_is_an_input_too(add, dtype):
    def kernel(q, k, v, mask=None, scale=None):
        mask.zero_()
        return exactly(q, k, v)

    add(kernel)
    mask, stats = torch.ones(1, 1, 24, 24).to(dtype), RunStats()
    run(draw(), stats=stats, mask=mask)
    assert mask.eq(1).all() and only(stats).reason == WRITES


def test_an_error_where_errors_are_wanted(add):
    add(lambda q, k, v, mask=None, scale=None: q.mul_(2))
    tensors = draw()
    before = [t.clone() for t in tensors]
    with pytest.raises(UnsupportedAttention, match=WRITES):
        run(tensors, Rule("test", on_unsupported=ERROR))
    assert all(map(torch.equal, tensors, before))


def test_tensors_that_are_one_row_many_times():
    """Another library writes through a pointer, where torch itself would refuse."""
    row = torch.randn(1, 2, 1, 8)
    k = row.expand(3, 2, 5, 8)
    before = k.clone()
    kept = InputCopies(k, k, k)
    row.add_(1)
    assert kept.restore() and torch.equal(k, before) and not kept.restore()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inference", [False, True])
def test_kept_inputs_come_back_bit_by_bit(dtype, inference):
    with torch.inference_mode(inference):
        q = torch.randn(2, 3, 4, 8).to(dtype)
        q[0, 0, 0, 0], q[0, 0, 0, 1] = float("nan"), -0.0
        before = q.clone()
        for shelved in (False, True):
            kept = InputCopies(q, q[:, :1], q.transpose(1, 2), torch.rand(1, 1, 1, 4) < 0.5)
            if shelved:
                kept.offload()
            assert not kept.restore()
            q[1, 2, 3] += 1
            assert kept.restore() and torch.equal(q.view(torch.uint8), before.view(torch.uint8))


def test_looked_at_once_for_a_geometry(add, monkeypatch):
    made = []
    monkeypatch.setattr(guarded_run, "InputCopies", lambda *given: made.append(1) or InputCopies(*given))
    add(lambda q, k, v, mask=None, scale=None: exactly(q, k, v))
    stats = RunStats()
    for block in range(3):
        for length in (24, 24, 30):
            for guard in GUARDS:
                run(draw(length=length), Rule("test", guard=guard), stats, site=AttentionSite("LTXV", SELF, block))
    assert len(made) == 2 and not summarise(stats).fallbacks
    run(draw(), stats=RunStats())
    assert len(made) == 3, "another run looks again"


def no_room(self, *args, **kw):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_without_room_for_copies_nothing_is_watched_and_all_runs(add, monkeypatch):
    add(lambda q, k, v, mask=None, scale=None: exactly(q, k, v))
    tensors, stats = draw(), RunStats()
    monkeypatch.setattr(torch.Tensor, "clone", no_room)
    assert torch.equal(run(tensors, stats=stats), host(*tensors, 2)) and only(stats).used == "test"
    monkeypatch.setattr(torch, "empty_like", no_room)
    assert torch.equal(run(tensors, stats=RunStats()), host(*tensors, 2))


PATTERN = Shape(patterns.Spatial())


@pytest.fixture
def spoil(monkeypatch):
    """spoil(change): every engine runs `change(video, out)` behind what it does."""

    def adds(change):
        def broken(row):
            return replace(row, run=lambda video, *rest: change(video, row.run(video, *rest)))

        monkeypatch.setattr(engine_registry, "TABLE", tuple(map(broken, sparse.TABLE)))
        monkeypatch.setattr(sparse.autotune, "_CHOSEN", {})

    return adds


@pytest.mark.parametrize("choice", [IN_ORDER, MEASURE])
@pytest.mark.parametrize("then", THEN)
def test_engines_that_write_are_out_and_undone(spoil, then, choice):
    spoil(lambda video, out: (video[1].mul_(3), THEN[then](out))[1])
    tensors, stats = draw(), RunStats()
    before = [t.clone() for t in tensors]
    rule = Rule("", SELF, shape=PATTERN, choice=choice, guard=GUARD_OFF, max_error=9.0)
    assert torch.equal(run(tensors, rule, stats), host(*before, 2))
    assert all(map(torch.equal, tensors, before)) and WRITES in only(stats).reason


def test_tensors_without_numbers_are_never_changed():
    """Models are laid out on the meta device too: nothing to compare there, and no kernel to blame."""
    q = torch.empty(1, 2, 4, 8, device="meta")
    assert not InputCopies(q, q, q).restore()
