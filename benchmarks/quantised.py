"""The arithmetic of INT8 attention in plain torch: its error where none of the kernels that have it runs, as on a CPU.

SageAttention's first form (https://arxiv.org/abs/2410.02367): queries and keys in whole numbers of eight bits, with a
scale for each block of tokens, keys less their mean; weights and values in 16 bits. Its time says nothing.
"""

from __future__ import annotations

import torch

from attention.routing.attention_call import AttentionCall, Override

NAME = "int8 arithmetic"
# Tokens that share a scale.
QUERIES, KEYS, LARGEST = 128, 64, 127


class Int8Attention(Override):
    """Answers every call without a mask in that arithmetic."""

    def answer(self, call: AttentionCall) -> torch.Tensor:
        return self.next(call) if call.mask is not None else call.reply(call.run(attend))


def attend(q, k, v, mask=None, scale=None):
    """Attends; (B, H, L, D) in and out."""
    (left, rows), (right, columns) = rounded(q, QUERIES), rounded(k - k.mean(2, keepdim=True), KEYS)
    scores = (left @ right.mT) * rows * columns.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    weights = scores.softmax(-1).to(torch.float16)
    return (weights.float() @ v.to(torch.float16).float()).to(q.dtype)


def rounded(x: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(whole numbers in float32, scale of each token): the largest of a block of tokens is LARGEST."""
    parts = x.float().split(block, 2)
    scales = torch.cat([p.abs().amax((2, 3), keepdim=True).expand(-1, -1, p.shape[2], 1) for p in parts], 2)
    scales = scales.clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
    return (x.float() / scales).round(), scales
