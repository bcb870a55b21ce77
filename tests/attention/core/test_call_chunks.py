"""Calls in chunks of heads and queries: the same numbers, and chunks that fit what there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from stand_in_host import ON_CPU

from attention.backends import registry
from attention.core.chunks import ChunkedKernel, Chunks, even, fitting, in_chunks, output_bytes, smaller
from attention.core.geometry import describe
from attention.core.peak_memory import peak_of
from attention.core.reference import relative_l2, scaled_dot_product_attention

torch.set_num_threads(1)


def draw(heads=6, kv_heads=6, length=300, keys=300, dim=16, batch=2, dtype=torch.float32, split=False):
    """q, k, v: views with a token's heads side by side, as hosts hand them over, or in heads."""
    made = [torch.randn(batch, n, h, dim, dtype=dtype).transpose(1, 2)
            for n, h in ((length, heads), (keys, kv_heads), (keys, kv_heads))]  # fmt: skip
    return [t.contiguous() for t in made] if split else made


def masks(heads, length, keys):
    yield None
    for shape in ((1, 1, 1, keys), (2, 1, length, keys), (2, heads, length, keys), (1, heads, 1, keys)):
        yield torch.randn(shape)
        yield torch.rand(shape) < 0.9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("chunks", [Chunks(2), Chunks(4), Chunks(1)], ids=str)
def test_heads_in_chunks_are_equal_bit_by_bit(backend, chunks, dtype):
    kernel = registry.load(backend)
    for length, keys in ((300, 300), (257, 77)):
        for split in (False, True):
            q, k, v = draw(length=length, keys=keys, dtype=dtype, split=split)
            out = ChunkedKernel(kernel, chunks)(q, k, v)
            assert out.equal(kernel(q, k, v)) and out.dtype == dtype
            # A token's heads lie side by side, as hosts want them.
            assert out.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("backend", ON_CPU)
def test_masks_and_heads_that_share_keys(backend):
    kernel, limits = registry.load(backend), registry.get(backend).limits
    for kv_heads in (6, 2) if limits.gqa else (6,):
        q, k, v = draw(kv_heads=kv_heads, length=150, keys=90)
        for mask in masks(6, 150, 90):
            for chunks in (Chunks(3), Chunks(3, 128)):
                if mask is None or "dense" in limits.masks:
                    out = ChunkedKernel(kernel, chunks)(q, k, v, mask=mask, scale=0.3)
                    wanted = scaled_dot_product_attention(*(t.double() for t in (q, k, v)), mask, 0.3)
                    assert relative_l2(out, wanted) < 1e-5


def test_a_malformed_part_is_an_error():
    q, k, v = draw()
    with pytest.raises(ValueError, match="output shape"):
        ChunkedKernel(lambda q, k, v, mask=None, scale=None: q[:, :1], Chunks(2))(q, k, v)
    with pytest.raises(TypeError, match="int32"):
        ChunkedKernel(lambda q, k, v, mask=None, scale=None: q.int(), Chunks(2))(q, k, v)


def test_a_kernel_with_a_way_of_its_own():
    def kernel(q, k, v, mask=None, scale=None):
        raise AssertionError

    kernel.in_chunks = lambda chunks: chunks.text
    assert in_chunks(kernel, Chunks(2)) == "2 heads at a time" and in_chunks(kernel, None) is kernel
    assert Chunks(1, 256).text == "1 head and 256 queries at a time"


def test_smaller_and_smaller():
    q, k, v = draw(heads=40, kv_heads=40, length=32640, keys=32640, dim=1, batch=1)
    call, found, chunks = describe(q, k, v), [], None
    while (chunks := smaller(call, chunks, True)) is not None:
        found.append((chunks.heads, chunks.queries))
    assert found == [(10, 0), (2, 0), (1, 0), (1, 8064), (1, 1920), (1, 384), (1, 128)]
    assert smaller(call, Chunks(1), False) is None
    shared = replace(call, kv_heads=8)
    assert [smaller(shared, None, False), smaller(shared, Chunks(10), False)] == [Chunks(10), Chunks(5)]
    assert smaller(shared, Chunks(5), False) is None


def test_parts_are_even():
    for heads in range(1, 50):
        for group in (1, 2, 3):
            for most in range(1, heads * group + 1):
                each = even(heads * group, most, group)
                assert each % group == 0 and group <= each <= max(group, most)
                assert each * 2 > most - group or heads * group % each == 0


@pytest.mark.parametrize("backend", [row.name for row in registry.TABLE])
def test_what_fits(backend):
    """The largest chunks that stay within the memory by what the row says; the smallest where none do."""
    row = registry.get(backend)
    q, k, v = draw(heads=12, kv_heads=12, length=2048, keys=2048, dim=64, batch=1, dtype=torch.bfloat16)
    call = replace(describe(q, k, v), device="cuda", capability=(9, 0))
    whole, out = row.takes(call), output_bytes(call)
    assert fitting(call, whole, row.takes, row.by_queries) is None
    for room in (whole - 1, out + (whole - out) // 3, out + 1, 0):
        chunks = fitting(call, room, row.takes, row.by_queries)
        if out + row.takes(chunks.of(call)) > room:
            assert smaller(call, chunks, row.by_queries) is None
        elif not chunks.queries and chunks.heads < 6:
            assert out + row.takes(replace(call, heads=2 * chunks.heads, kv_heads=2 * chunks.heads)) > room


@pytest.mark.parametrize("backend", ["reference", "sdpa math", "sdpa flash"])
def test_rows_say_how_much_they_take(backend):
    """Counted, of a whole call and of one in chunks that shall stay within a part of that."""
    row, kernel = registry.get(backend), registry.load(backend)
    q, k, v = draw(heads=4, kv_heads=4, length=512, keys=512, batch=1)
    call = describe(q, k, v)
    with torch.inference_mode():
        _, peak = peak_of(lambda: kernel(q, k, v), q.device)
        assert 0.75 * peak <= row.takes(call) <= 1.4 * peak
        room = output_bytes(call) + (row.takes(call) - output_bytes(call)) // 7
        chunked = in_chunks(kernel, fitting(call, room, row.takes, row.by_queries))
        assert row.name == "sdpa flash" or peak_of(lambda: chunked(q, k, v), q.device)[1] <= 1.1 * room
