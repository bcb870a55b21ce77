"""How each engine of sparse.TABLE is run on this machine: for itself, or with what its library documents in its place.

An engine that no stand-in is for runs for itself or not at all, and then says why: a new row needs nothing here.
Our own Triton kernel runs in tests/kernel/triton_patterns.py, in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

import torch
import torch.nn.functional as F

from attention.core.geometry import Geometry
from attention.core.reference import scaled_dot_product_attention
from attention.sparse import flex, kitchen


def as_on_gpu(geometry: Geometry) -> Geometry:
    """The geometry of the same call on an H100 in half precision."""
    return replace(geometry, device="cuda", dtype=torch.bfloat16, capability=(9, 0))


@dataclass(frozen=True)
class Way:
    """How an engine is run. told: what it is told of a call; put: module, name and what stands there meanwhile.

    all_blocks: whether the stand-in keeps all blocks, so that what comes out is dense attention.
    """

    told: Callable[[Geometry], Geometry] = lambda geometry: geometry
    put: tuple = ()
    all_blocks: bool = False

    @contextmanager
    def here(self):
        """With the stand-in, where there is one."""
        if not self.put:
            yield
            return
        module, name, stand_in = self.put
        before = getattr(module, name)
        setattr(module, name, stand_in)
        try:
            yield
        finally:
            setattr(module, name, before)


def na3d(q, k, v, kernel_size, is_causal=None, scale=None):
    """Stand-in, (B, T, H, W, NH, HD): as NATTEN, from its own definition."""
    grid = tuple(q.shape[1:4])
    assert all(1 <= size <= length for size, length in zip(kernel_size, grid)) and q.is_contiguous()
    index = torch.arange(prod(grid))
    seen = torch.ones(prod(grid), prod(grid), dtype=torch.bool)
    for axis, (size, length) in enumerate(zip(kernel_size, grid)):
        at = index // prod(grid[axis + 1 :]) % length
        start = (at - size // 2).clamp(0, length - size)
        seen &= (at[None] >= start[:, None]) & (at[None] < start[:, None] + size)
    flat = (t.flatten(1, 3).transpose(1, 2) for t in (q, k, v))
    return scaled_dot_product_attention(*flat, seen, scale).transpose(1, 2).unflatten(1, grid)


class Sol:
    """Stand-in, (B, T, H, 128): keeps all blocks, so that the result is dense attention with the key bias."""

    def __call__(
        self, q, k, v, tau=1.0, scale=None, sink_blocks=None, sink_q=None, key_bias=None, topk_ratio=0.0, tail=True
    ):
        assert q.shape == k.shape == v.shape and q.shape[3] == 128
        assert all(t.stride(-1) == 1 and t.stride(1) % 8 == 0 for t in (q, k, v)) and 0 <= topk_ratio < 1
        self.sinks, self.bias, self.keep, self.tau = sink_blocks, key_bias, topk_ratio, tau
        if key_bias is not None:
            assert not key_bias[..., sink_blocks[1] * 64 :].any(), "a bias outside the sinks"
        heads = (t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(*heads, key_bias, scale=scale).transpose(1, 2)


def flex_attention(q, k, v, block_mask=None, scale=None):
    """Stand-in for torch's: blocks listed as full are seen whole, those listed as partial by mask_mod, others not."""
    size, (q_len, kv_len) = block_mask.BLOCK_SIZE[0], block_mask.seq_lengths
    assert (q.shape[2], k.shape[2]) == (q_len, kv_len)
    seen = torch.zeros(-(-q_len // size), size, -(-kv_len // size) * size, dtype=torch.bool)
    query, key = torch.arange(seen.shape[0] * size), torch.arange(seen.shape[2])
    exactly = block_mask.mask_mod(0, 0, query.clamp(max=q_len - 1)[:, None], key[None]).view(seen.shape)
    for full, number, index in (
        (False, block_mask.kv_num_blocks, block_mask.kv_indices),
        (True, block_mask.full_kv_num_blocks, block_mask.full_kv_indices),
    ):
        for row in range(seen.shape[0]):
            for column in index[0, 0, row, : number[0, 0, row]].tolist():
                part = slice(column * size, (column + 1) * size)
                seen[row, :, part] = True if full else exactly[row, :, part]
    return scaled_dot_product_attention(q, k, v, seen.flatten(0, 1)[:q_len, :kv_len], scale)


STAND_INS = {
    kitchen.NA3D.name: Way(as_on_gpu, (kitchen, "load", {"na3d": na3d}.get)),
    kitchen.SOL.name: Way(as_on_gpu, (kitchen, "load", {"sol_attn": Sol()}.get), all_blocks=True),
    flex.FLEX.name: Way(as_on_gpu, (flex, "compiled", lambda: flex_attention)),
}


def way_of(engine) -> Way:
    """How an engine is run here."""
    return STAND_INS.get(engine.name, Way())
