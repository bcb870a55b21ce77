"""What is kept of an attention output is that output: as it is, or in eight bits with the error that is stated."""

from __future__ import annotations

import pytest
import torch

from attention.reuse import EIGHT_BIT, MODEL_DTYPE, STORAGES, ReuseSettings, kept_output
from attention.reuse.kept_output import KeptOutput, sample_of, size_of


def settings(storage=MODEL_DTYPE, **more):
    return ReuseSettings(storage=storage, **more)


def drawn(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape, heads, split", [((2, 37, 6 * 8), 6, False), ((1, 3, 300, 40), 1, True)])
@pytest.mark.parametrize("offload", [False, True])
def test_as_it_is_bit_for_bit(dtype, shape, heads, split, offload):
    out = drawn(shape, dtype)
    kept = KeptOutput(out, heads, split, settings(offload=offload))
    kept.put(out)
    given, again = kept.give(), kept.give()
    assert torch.equal(given, out) and given.dtype == dtype and given.is_contiguous()
    given.zero_()
    assert torch.equal(again, out) and torch.equal(kept.give(), out)
    assert kept.size == out.nbytes == size_of(out, heads, settings())
    assert torch.equal(kept.sample(), sample_of(out).float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape, heads, split", [((2, 301, 6 * 64), 6, False), ((1, 3, 300, 128), 1, True)])
def test_eight_bits_err_as_stated(dtype, shape, heads, split, monkeypatch):
    monkeypatch.setattr(kept_output, "PART", 10_000)
    out = drawn(shape, dtype)
    # Heads of very different sizes have scales of their own.
    scaled = out.unflatten(-1, (heads, -1)) * torch.logspace(-3, 3, heads, dtype=dtype)[:, None]
    out = scaled.flatten(-2)
    kept, before = KeptOutput(out, heads, split, settings(EIGHT_BIT)), out.clone()
    kept.put(out)
    given = kept.give()
    assert torch.equal(out, before)
    of_heads = [t.double().unflatten(-1, (heads, -1)) for t in (given, out)]
    errors = [(a - b).norm() / b.norm() for a, b in zip(*(t.unbind(-2) for t in of_heads), strict=True)]
    assert given.dtype == dtype and given.shape == out.shape
    # Also what a dtype of few digits loses when the sum is rounded to it.
    assert all(0.002 < error < 0.012 for error in errors), errors
    assert torch.allclose(kept.sample(), sample_of(given).float(), rtol=0.01)
    assert kept.size == size_of(out, heads, settings(EIGHT_BIT)) < out.numel() * 1.1


@pytest.mark.parametrize("storage", STORAGES)
def test_nothing_but_zeros_and_what_is_not_finite(storage):
    out = torch.zeros(1, 9, 16)
    out[0, 3, 2], out[0, 4, 9] = torch.nan, torch.inf
    kept = KeptOutput(out, 2, False, settings(storage))
    kept.put(out)
    given = kept.give()
    assert not given[0, :3].any() and not given[0, 5:].any()
    assert not given[0, 3].isfinite().all() and not given[0, 4].isfinite().all()


def test_memory_is_for_outputs_like_the_first():
    out = drawn((1, 8, 12))
    kept = KeptOutput(out, 2, False, settings())
    assert kept.fits(out, False) and not kept.fits(out, True)
    assert not kept.fits(out.half(), False) and not kept.fits(out[:, 1:], False)


@pytest.mark.parametrize(
    "wrong, name",
    [({"every": 0}, "every"), ({"every": 17}, "every"), ({"budget": 0}, "budget"), ({"storage": "4"}, "storage")],
)  # fmt: skip
def test_what_cannot_be_is_named(wrong, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        ReuseSettings(**wrong)
