"""Stand-ins for ComfyUI's own attention as routers and benches call it: in float64, and by torch's SDPA."""

from __future__ import annotations

import torch

from attention.backends import registry
from attention.core.tensor_layout import from_heads, to_heads

SDPA = torch.nn.functional.scaled_dot_product_attention
# Backends that run here, without a compiler.
ON_CPU = [name for name in registry.names() if name != "flex" and registry.get(name).limits.runs_on("cpu")]


def exact(q, k, v):
    """Computes attention in float64, in two lines.

    q: (B, H, Lq, D).
    k: (B, H, Lk, D).
    v: (B, H, Lk, D).
    """
    scores = q.double() @ k.double().mT * q.shape[-1] ** -0.5
    return scores.softmax(dim=-1) @ v.double()


def to_host(t, split):
    """Puts an output (B, H, L, D) into the host's layout, (B, L, H * D) unless `split`."""
    return t if split else t.transpose(1, 2).flatten(2)


def host(q, k, v, heads, mask=None, skip_output_reshape=False, **kw):
    """Computes attention in float64, whatever the mask."""
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    return to_host(exact(*split).to(q.dtype), skip_output_reshape)


def sdpa_host(q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw):
    """Computes attention by torch's SDPA, in both layouts of the host."""
    q, k, v = to_heads(q, k, v, heads, skip_reshape)
    return from_heads(SDPA(q, k, v, attn_mask=mask), skip_output_reshape)
