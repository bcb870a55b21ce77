"""ComfyUI's own attention as routers call it, and what it gives exactly."""

from __future__ import annotations

from attention.backends import registry

ON_CPU = [name for name in registry.names() if name != "flex" and registry.get(name).limits.runs_on("cpu")]


def exact(q, k, v):
    """Float64, two lines. q: (B, H, Lq, D); k, v: (B, H, Lk, D)."""
    scores = q.double() @ k.double().mT * q.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v.double()


def to_host(t, split):
    """(B, H, L, D) in the host's layout."""
    return t if split else t.transpose(1, 2).flatten(2)


def host(q, k, v, heads, mask=None, skip_output_reshape=False, **kw):
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    return to_host(exact(*split).to(q.dtype), skip_output_reshape)
