"""The table of Video Attention Benchmark: what stands there for a kernel that cannot run."""

from __future__ import annotations

import torch
from stand_in_host import host

from attention.backends import registry
from attention.backends.autotune import HOST_RUN, KernelTrial
from attention.core.geometry import describe
from attention.core.reason import Reason
from attention.plans.bench import Bench, auto_lines, to_text

torch.set_num_threads(1)


def test_the_table_gives_all_reasons_of_a_refusal(monkeypatch):
    """Installing a package or another dtype would not be enough: the user reads so before trying."""
    monkeypatch.setitem(registry._LOADED, "xformers", lambda q, k, v, mask=None, scale=None: q)
    bench, x, mask = Bench(), torch.randn(1, 24, 32, dtype=torch.float64), torch.zeros(24, 24, dtype=torch.float64)
    bench(host, x, x, x, 2, mask=mask, transformer_options={})
    ((key, trials),) = bench.trials.items()
    refused = {trial.name: trial.reason for trial in trials if trial.reason}
    assert refused["xformers"] == (
        "needs cuda, the tensors are on cpu; dtype float64, takes float16, bfloat16, float32; dense mask"
    )
    for name, reason in refused.items():
        assert reason == "; ".join(registry.reasons(name, key[1]))
        assert f"| {name} | - | - | {reason} |" in to_text(bench.trials)


def test_auto_waits_for_those_alone_that_promise_something(monkeypatch):
    """Neither the host, nor a kernel that failed, nor one that `auto` takes or leaves whatever was measured."""
    call = describe(*[torch.zeros(1, 2, 64, 32)] * 3)
    waits = [name for name in registry.names() if registry.get(name).promise]
    rows = [KernelTrial(name, 0.01, 0.001) for name in (HOST_RUN, *registry.names())]
    assert waits and len(waits) < len(registry.names())
    said = auto_lines(call, (*rows, KernelTrial(waits[0], reason=Reason("broken"))))
    assert [line.split(":")[0] for line in said] == [*(f"- {name}" for name in waits), ""]
    assert all("does not take it: it was wrong" in line for line in said[:-1])
    assert f"its error should be {registry.get(waits[0]).promise:g} at most" in said[0]
    monkeypatch.setattr(registry, "seen_right", lambda name, geometry, by_lists=False: not by_lists)
    assert all("may take it from now on, not for patterns" in line for line in auto_lines(call, tuple(rows))[:-1])
    monkeypatch.setattr(registry, "seen_right", lambda name, geometry, by_lists=False: True)
    assert all("may take it from now on, for patterns too" in line for line in auto_lines(call, tuple(rows))[:-1])
    assert auto_lines(call, rows[:1]) == []
