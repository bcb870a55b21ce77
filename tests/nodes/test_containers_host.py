"""Our nodes where ComfyUI passes q, k and v in containers, and its answer for very large batches.

The models, the sampler and the attention are ComfyUI's; so are its containers where it has any, see newer_host.py.
"""

from __future__ import annotations

import functools

import pytest
import torch
from newer_host import HEADS, SDPA, SLOT, attention_exact, host_container, is_container, newer

from attention.backends import registry
from attention.core.site import CALLER, Caller
from attention.plans import bench
from attention.routing import compiled_op
from attention.routing.router import Router
from attention.routing.rules import Rule
from attention.routing.run_stats import RunStats
from attention.routing.step_context import CONTEXT

torch.set_num_threads(1)


def test_nodes_give_the_router_the_hosts_function(lab):
    import comfy.ldm.modules.attention as host

    model = lab.backend(lab.backend(), "sdpa math", role="cross")
    router = model.model_options["transformer_options"][SLOT]
    assert router.host is host.optimized_attention and callable(router.container_function)


@pytest.mark.parametrize("consumes", [False, True])
def test_a_render_in_containers_gives_the_same(lab, plain, monkeypatch, consumes):
    """A real model and sampler; only the host's function is behind the stand-in that closes and opens."""
    import comfy.ldm.modules.attention as host

    real, taken, container = host.optimized_attention, [], host_container()
    opened = newer(real)

    @functools.wraps(opened)
    def closing(q, k, v, heads, *args, **kw):
        closed = [t if is_container(t) else container(t) for t in (q, k, v)]
        return opened(*closed, heads, *args, **kw)

    def kernel(q, k, v, mask=None, scale=None):
        return SDPA(q, k, v, attn_mask=mask, scale=scale)

    def consume(tensors, mask=None, scale=None):
        taken.append(len(tensors))
        out = kernel(*tensors, mask=mask, scale=scale)
        tensors.clear()
        return out

    if consumes:
        kernel.consume = consume
    monkeypatch.setitem(lab.pack.attention.backends.registry._LOADED, "sdpa", kernel)
    monkeypatch.setattr(host, "optimized_attention", closing)
    latent = lab.sample(lab.backend(lab.backend(), registry.HOST, blocks="1"))
    assert lab.error(latent, plain) <= 1e-5
    calls = {(row.used, frozenset(row.blocks)): row.calls for row in lab.report(latent).rows if row.role == "self"}
    assert calls == {("sdpa", frozenset({0})): 4, ("host default (pytorch)", frozenset({1})): 4}
    # Self and cross of block 0 in four steps, less the first call of each, which is guarded.
    assert taken == ([3] * 6 if consumes else [])


def test_torch_compile_takes_them_into_its_graph(comfy_host):
    """Where a model evaluation is on, the router is one operator of the graph; else fullgraph is an error."""
    router, stats, container = Router((Rule("sdpa"),), host=newer(attention_exact)), RunStats(), host_container()
    options = {SLOT: router, CONTEXT: stats.context, CALLER: Caller(live=True)}

    @torch.compile(backend="eager", fullgraph=True)
    def model(x, options):
        containers = [container(x * n) for n in (1.0, 2.0, 3.0)]
        out = router.container_function(*containers, HEADS, transformer_options=options)
        return out + 1

    x = torch.randn(2, 8, HEADS * 16)
    compiled_op.begin(options)
    try:
        with torch.inference_mode():
            for _ in range(2):
                torch.testing.assert_close(model(x, options), attention_exact(x, x * 2, x * 3, HEADS) + 1)
    finally:
        compiled_op.begin(None)
    (decision,) = stats.decisions.values()
    assert (decision.used, decision.calls) == ("sdpa", 2)


def test_a_host_that_forgets_the_layout(comfy_host, monkeypatch):
    """Above a batch of SDP_BATCH_LIMIT ComfyUI's own answers (B, L, H*D) whatever it was asked for."""
    import comfy.ldm.modules.attention as host

    monkeypatch.setattr(host, "SDP_BATCH_LIMIT", 1)
    q, k, v = (torch.randn(2, 8, HEADS * 16) for _ in range(3))
    assert host.attention_pytorch(q, k, v, HEADS, skip_output_reshape=True).ndim == 3
    expected = attention_exact(q, k, v, HEADS, skip_output_reshape=True)
    override = bench.Bench()
    override(host.attention_pytorch, q, k, v, HEADS)
    (trials,) = override.trials.values()
    (own,) = [trial for trial in trials if trial.name == "host"]
    assert own.error < 1e-5 and own.seconds > 0
    passing = Router((), lambda func, *args, **kw: func(*args, **kw))
    for router in (Router(), passing):
        out = router(host.attention_pytorch, q, k, v, HEADS, skip_output_reshape=True)
        torch.testing.assert_close(out, expected)
    router = Router((Rule(role="cross"),), host=host.attention_pytorch)
    out = router.container_function(
        *map(host_container(), (q, k, v)), HEADS, skip_output_reshape=True, _inside_attn_wrapper=True
    )
    torch.testing.assert_close(out, expected)
