"""The table of Video Attention Benchmark: what stands there for a kernel that cannot run."""

from __future__ import annotations

import torch
from stand_in_host import host

from attention.backends import registry
from attention.plans.bench import Bench, to_text

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
