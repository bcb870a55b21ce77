"""Two threads drive one router, as two GPUs do: every call is counted where it belongs and gets its own numbers."""

from __future__ import annotations

import sys
import threading

import pytest
import torch
from open_limits import open_limits

from attention.backends import autotune, registry
from attention.backends.spec import Backend
from attention.core.site import SELF, SITE, AttentionSite
from attention.routing.router import Router
from attention.routing.rules import GUARD_EVERY, IN_ORDER, Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

CALLS, THREADS = 300, 2
SDPA = torch.nn.functional.scaled_dot_product_attention
SITES = tuple(AttentionSite("LTXV", SELF, block) for block in range(3))


@pytest.fixture(autouse=True)
def eager_switches(monkeypatch):
    """Threads change places a thousand times as often as usual; what `auto` knows starts empty."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    monkeypatch.setattr(autotune, "_CHOSEN", {})
    yield
    sys.setswitchinterval(before)


def host(q, k, v, heads, mask=None, attn_precision=None, skip_reshape=True, skip_output_reshape=True, **kw):
    return SDPA(q, k, v)


def drive(work):
    """Runs work(index) in every thread at once; raises what one of them raised."""
    barrier, failures = threading.Barrier(THREADS), []

    def body(index):
        try:
            barrier.wait(timeout=30)
            work(index)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


def calls(router, context, inputs, truth):
    for turn in range(CALLS):
        options = {CONTEXT: context, SITE: SITES[turn % len(SITES)]}
        out = router(host, *inputs, 2, None, None, True, True, transformer_options=options)
        assert torch.equal(out, truth), "another thread's numbers"


def own_inputs(length=8):
    """q, k, v of a thread and what they must give."""
    inputs = [torch.randn(1, 2, length, 16) for _ in range(3)]
    return inputs, SDPA(*inputs)


@pytest.mark.parametrize("rule", [Rule("sdpa"), Rule("auto", choice=IN_ORDER), Rule("auto")], ids=str)
def test_two_runs_at_once(monkeypatch, rule):
    """Two prompts or two models: each has its stats, and the same geometry."""
    # The host's stand-in and this one round alike, so that it does not matter which of them `auto` takes.
    monkeypatch.setattr(registry, "candidates", lambda call: (["sdpa"], {}))
    router, runs = Router((rule,)), [RunStats() for _ in range(THREADS)]
    work = [own_inputs() for _ in range(THREADS)]
    drive(lambda index: calls(router, runs[index].context, *work[index]))
    for stats in runs:
        decisions = list(stats.decisions.values())
        assert len(decisions) == len(SITES) and {decision.calls for decision in decisions} == {CALLS // len(SITES)}
        assert not any(decision.fell_back for decision in decisions)
    assert not router.stats.decisions, "nothing went to the stats of calls outside of a run"


def test_two_devices_of_one_run():
    """One prompt on two GPUs shares stats. The device is part of the key; here two lengths stand for two devices."""
    router, stats = Router((Rule("sdpa"),)), RunStats()
    work = [own_inputs(length) for length in (8, 12)]
    drive(lambda index: calls(router, stats.context, *work[index]))
    counts = {(decision.site.block, decision.geometry.q_len): decision.calls for decision in stats.decisions.values()}
    assert counts == {(site.block, length): CALLS // len(SITES) for site in SITES for length in (8, 12)}


def test_the_device_is_part_of_the_key():
    """Else two GPUs would count, and fail, in one decision."""
    router, stats = Router((Rule("sdpa"),)), RunStats()
    for device in ("cpu", "meta"):
        q = torch.empty(1, 2, 8, 16, device=device)
        router(host, q, q, q, 2, None, None, True, True, transformer_options={CONTEXT: stats.context})
    assert len(stats.decisions) == 2


def test_a_fault_in_one_thread_stays_there(monkeypatch):
    """A kernel that fails for one run is still used by the other."""

    def picky(q, k, v, mask=None, scale=None):
        if q[0, 0, 0, 0] == 7:
            raise RuntimeError("a fault")
        return SDPA(q, k, v)

    monkeypatch.setitem(registry._BY_NAME, "picky", Backend("picky", "A test's.", open_limits(), load=lambda: picky))
    monkeypatch.setitem(registry._LOADED, "picky", picky)
    router, runs = Router((Rule("picky", guard=GUARD_EVERY),)), [RunStats() for _ in range(THREADS)]
    work = [own_inputs() for _ in range(THREADS)]
    work[1][0][0][0, 0, 0, 0] = 7
    work[1] = (work[1][0], SDPA(*work[1][0]))
    drive(lambda index: calls(router, runs[index].context, *work[index]))
    fell_back = [sum(decision.fell_back for decision in stats.decisions.values()) for stats in runs]
    assert fell_back == [0, CALLS]
    assert {decision.reason for decision in runs[1].decisions.values()} == {"RuntimeError: a fault"}
