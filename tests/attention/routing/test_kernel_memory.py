"""Kernels that run out of memory: what they took is gone before anything else runs, and they have a second attempt."""

from __future__ import annotations

import weakref

import pytest
import torch
from faulty_kernels import draw, exactly, only, run
from stand_in_host import host

from attention.core.input_copies import InputCopies
from attention.core.site import SELF, AttentionSite
from attention.routing import chunking, guarded_run
from attention.routing.rules import GUARD_OFF, Rule
from attention.routing.run_stats import RunStats

torch.set_num_threads(1)


class Hungry:
    """Takes scratch and fails for want of memory the first `times` times."""

    def __init__(self, times, error=torch.OutOfMemoryError):
        self.times, self.error, self.calls, self.scratch = times, error, 0, []

    def __call__(self, q, k, v, mask=None, scale=None):
        self.calls += 1
        scratch = torch.zeros(1 << 10)
        self.scratch.append(weakref.ref(scratch))
        if self.calls > self.times:
            return exactly(q, k, v)
        try:
            self.deeper(scratch)
        except Exception as error:
            kept = error  # a cycle: the frame holds the exception that holds the frame
            raise RuntimeError("CUDA error: out of memory") from kept

    def deeper(self, held):
        other = held + 1
        self.scratch.append(weakref.ref(other))
        raise self.error("CUDA out of memory")

    @property
    def alive(self):
        return [ref() is not None for ref in self.scratch]


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("later", [False, True])
def test_what_failed_is_gone_before_anything_else_runs(add, monkeypatch, times, later):
    kernel, rooms = add(Hungry(times)), []
    tensors, stats, rule = draw(), RunStats(), Rule("test", guard=GUARD_OFF)
    for module in (guarded_run, chunking):
        monkeypatch.setattr(module, "free_cached_memory", lambda device: rooms.append(kernel.alive))
    if later:  # not in the first call of the geometry, which is looked at
        kernel.times = 0
        run(tensors, rule, stats)
        kernel.calls, kernel.times, kernel.scratch = 0, times, []

    def own(*args, **kw):
        rooms.append(kernel.alive)
        return host(*args, **kw)

    for _ in range(2):
        assert torch.equal(run(tensors, rule, stats, own=own), host(*tensors, 2))
    assert rooms and not any(map(any, rooms))
    # Tried once more, for a transient want of memory, then one head at a time, and no more in this run.
    assert kernel.calls == {1: 3, 2: 2 + 2 * 2, 9: 3}[times]
    decision, reason = only(stats), "RuntimeError: CUDA error: out of memory"
    assert (decision.fell_back, decision.chunked) == {1: (0, 0), 2: (0, 2), 9: (2, 0)}[times]
    assert (decision.reason, decision.cut) == {1: (None, None), 2: (None, reason), 9: (reason, None)}[times]


def test_once_more_for_a_geometry_not_for_each_block(add):
    kernel, stats = add(Hungry(99)), RunStats()
    for block in range(4):
        run(draw(), stats=stats, site=AttentionSite("LTXV", SELF, block))
    assert kernel.calls == 3 + 3


def test_the_copies_that_were_ours_do_not_cost_the_kernel(add, monkeypatch):
    """A kernel that had room without them has it again at the second attempt."""
    taken = []

    class Counted(InputCopies):
        def __init__(self, *given):
            super().__init__(*given)
            taken.append(self)

        def offload(self):
            super().offload()
            taken.remove(self)

    def kernel(q, k, v, mask=None, scale=None):
        if taken:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exactly(q, k, v)

    add(kernel)
    monkeypatch.setattr(guarded_run, "InputCopies", Counted)
    stats = RunStats()
    run(draw(), stats=stats)
    assert (only(stats).used, only(stats).fell_back) == ("test", 0)


@pytest.mark.parametrize(
    ("kernel_s", "own_s", "ends"), [(True, True, False), (False, True, False), (True, False, True)]
)
def test_the_fallback_is_tried_again_where_both_lacked_memory(add, kernel_s, own_s, ends):
    def kernel(q, k, v, mask=None, scale=None):
        raise (torch.OutOfMemoryError if kernel_s else ValueError)("no")

    calls, tensors = [], draw()

    def own(*args, **kw):
        calls.append(1)
        if len(calls) == 1:
            raise (torch.OutOfMemoryError if own_s else ValueError)("not now")
        return host(*args, **kw)

    add(kernel)
    if ends:
        with pytest.raises((torch.OutOfMemoryError, ValueError), match="not now"):
            run(tensors, own=own)
    else:
        assert torch.equal(run(tensors, own=own), host(*tensors, 2))
