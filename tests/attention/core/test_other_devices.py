"""Intel's (xpu) and Apple's (mps) GPUs: what accepts them runs without torch.cuda and without float64, and is right.

On the CPU, which stands in for them: tests/lib/pretended_device.py says what that shows and what not.
"""

from __future__ import annotations

import pattern_rows
import pytest
import torch
from pretended_device import pretend
from stand_in_host import sdpa_host
from video_calls import draw, place_of

from attention import sparse
from attention.backends import TABLE, autotune, registry
from attention.backends.spec import EVERY_DEVICE
from attention.core.error_handling import free_cached_memory
from attention.core.geometry import describe
from attention.core.gpu import widest
from attention.core.reason import Reason
from attention.core.reference import relative_l2, scaled_dot_product_attention
from attention.core.site import SITE, AttentionSite
from attention.core.timing import elapsed, end_span, start_span
from attention.core.tokens import Tokens
from attention.plans import bench, probe
from attention.routing.router import Router
from attention.routing.rules import Rule, Shape
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT, StepContext
from attention.sparse import engine_registry

GRID = (5, 8, 8)
# Those made of torch's own operations.
GATHER = {"tiles", "blocks", "slabs", "folded"}


@pytest.fixture(params=["mps", "xpu"])
def device(request, monkeypatch):
    for chosen in (autotune, sparse.autotune):
        monkeypatch.setattr(chosen, "_CHOSEN", {})
    return pretend(monkeypatch, request.param)


def test_the_stand_in_sees_what_would_fail(device):
    with device:
        assert torch.ones(2).device == device.device and torch.ones(2, device=device.device).sum() == 2
        with pytest.raises(AssertionError, match="float64"):
            torch.ones(2).double()
        with pytest.raises(AssertionError, match="float64"):
            torch.ones(2).sum(dtype=torch.float64)
        with pytest.raises(AssertionError, match="torch.cuda.synchronize"):
            torch.cuda.synchronize()


def test_float64_where_there_is_some(device):
    assert widest(torch.device("cpu")) == torch.float64 and widest(device.device) == torch.float32


def test_a_span_is_the_gpu_s(device):
    span = end_span(start_span(device.device), device.device)
    assert elapsed(span) == 1e-3
    free_cached_memory(device.device)


def test_backends_made_of_torch_s_own_operations_accept_alone(device):
    q, k, v = (torch.randn(1, 2, 80, 64) for _ in "qkv")
    truth = scaled_dot_product_attention(*(t.double() for t in (q, k, v)))
    with device:
        call = describe(q, k, v)
        accept = {row.name for row in TABLE if row.refuses(call) is None}
        outs = {name: registry.attend(q, k, v, backend=name) for name in accept}
        assert call.device == device.device.type and call.capability is call.amd is None
        assert registry.pick(call)[0] == "sdpa"
    assert accept == {row.name for row in TABLE if row.limits.devices == EVERY_DEVICE}
    for name, out in outs.items():
        assert relative_l2(out, truth) < 1e-6, name


@pytest.mark.parametrize("pattern", pattern_rows.EDGES, ids=str)
def test_every_pattern_runs_and_is_that_of_the_cpu(device, pattern):
    video_span = place_of(GRID, before=7, after=3)
    q, k, v = draw(video_span)
    here = engine_registry.runners(pattern, video_span, describe(q, k, v))
    with device:
        there = engine_registry.runners(pattern, video_span, describe(q, k, v))
        assert isinstance(here, Reason) is isinstance(there, Reason)
        outs = [] if isinstance(there, Reason) else [runner(q, k, v, None) for runner in there]
    wanted = [] if isinstance(here, Reason) else [here[0](q, k, v, None)]
    for runner, out in zip(there, outs):
        assert set(runner.engines) <= GATHER and relative_l2(out, wanted[0]) < 1e-5


@pytest.mark.parametrize(
    "rule", [Rule(backend="auto"), Rule("", role="self", shape=Shape(pattern_rows.EDGES[1], "auto"))]
)
def test_the_way_of_a_call(device, rule):
    """Through the router, where `auto` tries its kernels: checks, times and frees as on any GPU."""
    torch.manual_seed(0)
    x = torch.randn(1, 320, 2 * 16)
    site, context = AttentionSite("", "self", 0), StepContext(RunStats(), tokens=Tokens(GRID))
    with device:
        out = Router((rule,))(sdpa_host, x, x, x, 2, transformer_options={SITE: site, CONTEXT: context})
    (decision,) = context.stats.decisions.values()
    said = f"{decision.reason} {decision.passed_over} {decision.choice} {decision.dense}"
    assert out.isfinite().all() and decision.used and decision.fell_back == 0
    assert "float64" not in said and "torch.cuda." not in said


def test_benchmark_and_probe(device):
    seen, x = bench.Bench(), torch.randn(1, 320, 2 * 16)
    options = {SITE: AttentionSite("", "self", 0), CONTEXT: StepContext(RunStats(), tokens=Tokens(GRID))}
    with device:
        seen(sdpa_host, x, x, x, 2, transformer_options=options)
        assert probe.distance([x], [x]) == 0 and relative_l2(x, x) == 0
        told = bench.to_text(seen.trials)
    assert "float64" not in told and "torch.cuda" not in told and "sdpa" in told
