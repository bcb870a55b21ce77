"""The host's attention for kernels that Benchmark times."""

from __future__ import annotations

import torch

from attention.core.tensor_layout import from_heads, to_heads

SDPA = torch.nn.functional.scaled_dot_product_attention


def host(q, k, v, heads, mask=None, attn_precision=None, skip_reshape=False, skip_output_reshape=False, **kw):
    q, k, v = to_heads(q, k, v, heads, skip_reshape)
    return from_heads(SDPA(q, k, v, attn_mask=mask), skip_output_reshape)
