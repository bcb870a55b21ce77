"""Video Attention Maps beside a kernel that rounds what it attends with."""

import pytest
import torch
from witness import row_of

pytestmark = pytest.mark.usefixtures("inference")


def to_int8(x):
    """x as a kernel with INT8 scores sees it: a scale for each token."""
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (x / scale).round().clamp(-127, 127) * scale


def test_a_quantised_kernel_has_the_maps_of_what_it_is_given(lab, monkeypatch):
    """A stand-in that rounds q and k to INT8, as no such kernel runs on a CPU: the maps are of q and k before that."""
    registry, maps, layout = (
        lab.pack.attention.backends.registry,
        lab.pack.nodes.runs.attention_maps,
        lab.pack.attention.core.tensor_layout,
    )
    registry.load_all()
    exact, given = registry.load("sdpa math"), []

    def kernel(q, k, v, mask=None, scale=None):
        given.append((q.clone(), k.clone(), q.shape[1], mask, True, scale))
        return exact(to_int8(q), to_int8(k), v, mask=mask, scale=scale)

    latent, query = {"samples": lab.sample()}, lab.pack.attention.inspect.maps.Query(80, 20, 1)
    _, plain = views_of(maps, lab.model, lab.prompt[0], latent, query)
    monkeypatch.setattr(registry, "_LOADED", {**registry._LOADED, "sdpa math": kernel})
    out, views = views_of(maps, lab.backend(backend="sdpa math"), lab.prompt[0], latent, query)
    assert lab.calls_of(lab.report(out)) == {("self", "sdpa math"): 2, ("cross", "sdpa math"): 2}
    assert len(views) == len(given) == 4
    token = query.tokens(views[0].video_span.grid)
    for view, call in zip(views, given):
        truth = row_of(call, token, len(view.weights), layout)
        rounded = row_of((to_int8(call[0]), to_int8(call[1]), *call[2:]), token, len(view.weights), layout)
        assert (view.weights - truth).abs().max() <= 1e-6 < (view.weights - rounded).abs().max()
    # In the first block both kernels are given the same: so are the maps.
    assert torch.equal(views[0].weights, plain[0].weights)


def views_of(maps, model, positive, latent, query) -> tuple:
    patched, watcher = maps.watch_attention(model, query)
    return maps.evaluate(patched, positive, latent, 0.7, 0, True), watcher.views
