"""The rows of attention that a model really computed."""

from __future__ import annotations

import torch
from tiny.case import SLOT, parts, prompt


def given(case) -> tuple[list, dict]:
    """Prompt and LATENT of a case; latents that are not zero, so that they count."""
    latent = {"samples": filled(case.latent())}
    if "noise_mask" in case.options:
        latent["noise_mask"] = case.options["noise_mask"]
    return prompt(case, 1), latent


def filled(samples):
    random = torch.Generator().manual_seed(5)
    for part in parts(samples):
        part.copy_(torch.randn(part.shape, generator=random))
    return samples


def with_witness(model) -> tuple[object, list]:
    """A clone that keeps q, k and mask of every attention call of an older override."""
    seen, watched = [], model.clone()

    def keep(func, q, k, v, heads, mask=None, **kw):
        seen.append((q.clone(), k.clone(), heads, mask, kw.get("skip_reshape", False), kw.get("scale")))
        return func(q, k, v, heads, mask=mask, **kw)

    watched.model_options.setdefault("transformer_options", {})[SLOT] = keep
    return watched, seen


def row_of(call, token, length, layout):
    """(L,) of the first row of the batch, mean over heads; None when the call has other lengths."""
    q, k, heads, mask, split, scale = call
    q, k, _ = layout.to_heads(q, k, k, heads, split)
    if k.shape[2] != length or token >= q.shape[2]:
        return None
    k = layout.expand_kv(k, k, q.shape[1])[0]
    scores = q[0, :, token].double() @ k[0].double().transpose(1, 2) * (scale or q.shape[-1] ** -0.5)
    if mask is not None:
        mask = layout.to_mask(mask, torch.float64)[0]
        mask = mask if mask.shape[1] == 1 else mask[:, token]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1).mean((0, 1))
