"""Cuts one attention call into calls with some of its heads, or some of its queries: the same result in less memory.

Heads know nothing of each other, and of the queries only the keys are shared. So each number comes out as from the
whole call, bit by bit where a kernel does not order its sums by how many heads or queries there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from .geometry import Geometry
from .kernel import Kernel, checked
from .tensor_layout import empty_output

# Queries are cut into whole blocks of so many: what kernels work on, and quantise, at once.
BLOCK = 128
# Heads or queries of one attempt over those of the next, where memory is missing.
STEP = 4


@dataclass(frozen=True)
class Chunks:
    """How a call is cut.

    heads: of queries at once, a multiple of those that share keys.
    queries: at once; 0: all of them.
    """

    heads: int
    queries: int = 0

    @property
    def text(self) -> str:
        """Write `3 heads at a time`, and the queries where they are cut too."""
        heads = f"{self.heads} head{'s' * (self.heads > 1)}"
        return f"{heads} at a time" if not self.queries else f"{heads} and {self.queries} queries at a time"

    def of(self, geometry: Geometry) -> Geometry:
        """Return the geometry of the largest part of a call."""
        kv_heads = max(1, self.heads * geometry.kv_heads // geometry.heads)
        queries = min(self.queries or geometry.q_len, geometry.q_len)
        return replace(geometry, heads=self.heads, kv_heads=kv_heads, q_len=queries)


def smaller(geometry: Geometry, chunks: Chunks | None, by_queries: bool) -> Chunks | None:
    """Choose the next smaller chunks for a call that found no memory; None where there are none.

    chunks: those that were too large; None: the whole call.
    by_queries: whether a part with fewer queries takes less for what it holds.
    """
    group = geometry.heads // max(1, geometry.kv_heads)
    heads = geometry.heads if chunks is None else chunks.heads
    queries = (0 if chunks is None else chunks.queries) or geometry.q_len
    if heads > group:
        return Chunks(even(geometry.heads, max(group, heads // STEP), group))
    if by_queries and queries > BLOCK:
        return Chunks(group, max(BLOCK, queries // STEP // BLOCK * BLOCK))
    return None


def fitting(geometry: Geometry, room: int, takes: Callable[[Geometry], int], by_queries: bool) -> Chunks | None:
    """Choose the largest chunks with which a call stays within `room` bytes; None where the whole call does.

    The smallest ones where none stay within it.

    takes: how many bytes a call takes beside q, k and v, its output included.
    by_queries: as of smaller.
    """
    if takes(geometry) <= room:
        return None
    group, found = geometry.heads // max(1, geometry.kv_heads), None
    left = room - output_bytes(geometry)
    for heads in range(geometry.heads - group, 0, -group):
        found = Chunks(even(geometry.heads, heads, group))
        if takes(found.of(geometry)) <= left:
            return found
    while by_queries and (found is None or takes(found.of(geometry)) > left):
        cut = smaller(geometry, found or Chunks(group), by_queries)
        if cut is None:
            break
        found = cut
    return found


def output_bytes(geometry: Geometry) -> int:
    """Count the bytes of a call's output, which is as large as q."""
    return geometry.batch * geometry.heads * geometry.q_len * geometry.head_dim * geometry.dtype.itemsize


def even(heads: int, most: int, group: int) -> int:
    """Choose how many heads go at a time: `most` at most, a multiple of `group`, the parts as equal as can be."""
    units, most = heads // group, max(1, most // group)
    divisor = next(n for n in range(most, 0, -1) if units % n == 0)
    parts = -(-units // most)
    # Kernels that compile for a shape compile once then.
    return group * (divisor if divisor * 2 > most else -(-units // parts))


def spans(length: int, each: int) -> Iterator[slice]:
    """Cut 0..length into slices of `each`, the last one shorter."""
    return (slice(first, min(first + each, length)) for first in range(0, length, each))


def mask_of_chunk(mask: torch.Tensor | None, heads: slice, queries: slice) -> torch.Tensor | None:
    """Take the part of a mask (1|B, 1|H, 1|Lq, Lk) that is for some heads and queries."""
    if mask is None:
        return None
    mask = mask if mask.shape[1] == 1 else mask[:, heads]
    return mask if mask.shape[2] == 1 else mask[:, :, queries]


class ChunkedKernel:
    """Runs a kernel for some heads, or some queries, after the other: a Kernel itself."""

    def __init__(self, kernel: Kernel, chunks: Chunks):
        self.kernel, self.chunks = kernel, chunks

    def __call__(self, q, k, v, mask=None, scale=None) -> torch.Tensor:
        """Attend part by part. As core.kernel.Kernel."""
        out, group = empty_output(q), q.shape[1] // k.shape[1]
        for heads in spans(q.shape[1], self.chunks.heads):
            shared = slice(heads.start // group, heads.stop // group)
            some_k, some_v = k[:, shared], v[:, shared]
            for queries in spans(q.shape[2], self.chunks.queries or q.shape[2]):
                some_q = q[:, heads, queries]
                one = self.kernel(some_q, some_k, some_v, mask=mask_of_chunk(mask, heads, queries), scale=scale)
                out[:, heads, queries] = checked(one, some_q.shape, q.dtype)
        return out


def in_chunks(kernel: Kernel, chunks: Chunks | None) -> Kernel:
    """Make a kernel work in chunks, by its own way to do so where it has one; None: as it is."""
    if chunks is None:
        return kernel
    own = getattr(kernel, "in_chunks", None)
    return ChunkedKernel(kernel, chunks) if own is None else own(chunks)
