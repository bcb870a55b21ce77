"""A stand-in for the module of comfy-kitchen."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch

SDPA = torch.nn.functional.scaled_dot_product_attention


@dataclass
class Packed:
    """What the library keeps: INT8 copies and scales there, plain copies here."""

    tensors: tuple
    scale: float | None
    mask: torch.Tensor | None


class Library:
    """comfy_kitchen, as far as the adapter sees it. alive: which inputs were still held when the second stage began."""

    def __init__(self, fails=""):
        self.fails, self.inputs, self.alive = fails, [], None

    def int8_attention(self, q, k, v, *, scale=None, attn_mask=None):
        self.check(q, k, v)
        return SDPA(q, k, v, attn_mask=attn_mask, scale=scale)

    def prequantize_int8_attention(self, q, k, v, *, scale=None, attn_mask=None):
        self.check(q, k, v)
        if self.fails == "first":
            raise torch.OutOfMemoryError("no memory for the quantised copies")
        self.inputs = [weakref.ref(t) for t in (q, k, v)]
        return Packed(tuple(t.clone() for t in (q, k, v)), scale, attn_mask)

    def int8_attention_from_prequantized(self, packed):
        self.alive = [ref() is not None for ref in self.inputs]
        return SDPA(*packed.tensors, attn_mask=packed.mask, scale=packed.scale)

    @staticmethod
    def check(*tensors):
        for t in tensors:
            steps = (t.data_ptr() // t.element_size(), *t.stride()[:3])
            if t.stride(-1) != 1 or any(step % 4 for step in steps):
                raise RuntimeError("base pointers and B/H/N strides must preserve 4-element alignment")
