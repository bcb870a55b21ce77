"""Formulas of guidance and strength in 16 bit against float64: as near as rounding the result, and never NaN."""

from __future__ import annotations

import pytest
import torch

from attention.core.reference import relative_l2
from attention.core.tokens import BOTH, VideoSpan
from attention.guidance import nag, pag, stg
from attention.guidance.strength import Strength, cross_frame_intensity
from attention.routing.attention_call import AttentionCall

# Half a unit in the last place, and what inputs rounded to 16 bit are off by themselves does not count.
ROUNDING = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 2**-22}
DTYPES = list(ROUNDING)


def noise(shape, seed, dtype, size=1.0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)


def nearest(truth: torch.Tensor, dtype) -> torch.Tensor:
    """The result that float64 gives, as far as the dtype can hold it."""
    most = torch.finfo(dtype).max
    return truth.clamp(-most, most)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0, 8400.0, 30000.0])
def test_nag(dtype, size):
    """The line of the paper subtracts two large numbers: at 8,400 it left float16's range."""
    positive, negative = (noise((2, 37, 24), seed, dtype, size) for seed in (0, 1))
    limit = torch.finfo(dtype).max
    positive, negative = (t.clamp(-limit, limit) for t in (positive, negative))
    for settings in (nag.Nag(), nag.Nag(100.0, 10.0, 1.0), nag.Nag(5.0, 1.0, 0.5)):
        got = settings.guide(positive, negative)
        truth = nearest(settings.guide(positive.double(), negative.double()), dtype)
        assert got.dtype == dtype and relative_l2(got, truth) < 2 * ROUNDING[dtype]
        split = (t.unflatten(-1, (3, 8)).transpose(1, 2) for t in (positive, negative))
        assert torch.equal(settings.guide(*split).transpose(1, 2).flatten(2), got)


def test_nag_in_pieces(monkeypatch):
    positive, negative = (noise((2, 37, 24), seed, torch.float16) for seed in (0, 1))
    whole = nag.Nag().guide(positive, negative)
    monkeypatch.setattr(nag, "PIECE", 5 * 2 * 24)
    assert torch.equal(nag.Nag().guide(positive, negative), whole)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 20000.0])
def test_away_from_a_weaker_model(dtype, size):
    tensors = [noise((2, 3, 4, 5, 7), seed, dtype, size).clamp(-60000, 60000) for seed in range(3)]
    wide = [t.double() for t in tensors]
    for guide in (lambda *t: stg.guide(*t, 3.0, 0.7), lambda *t: stg.guide(*t, 3.0), lambda *t: pag.guide(*t, 3.0)):
        got, truth = guide(*tensors), nearest(guide(*wide), dtype)
        assert got.dtype == dtype and relative_l2(got, truth) < 2 * ROUNDING[dtype]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0.1, 1.0, 40.0])
def test_ties_between_frames(dtype, size):
    """Scores of unnormalised heads leave float16's range: 40 * 40 * 64 is 102400."""
    grid, q, k = (5, 3, 2), *(noise((2, 3, 30, 64), seed, dtype, size) for seed in (0, 1))
    k = k + q  # one direction, so that the scores are as large as they can be
    truth = cross_frame_intensity(q.double(), k.double(), grid).double()
    assert torch.allclose(cross_frame_intensity(q, k, grid).double(), truth, atol=1e-5)
    out = noise((2, 30, 192), 2, dtype, 1000.0)
    strength, video_span = Strength(cross_frame=300.0), VideoSpan(grid, 0, BOTH)
    got = strength.amplify(out, video_span, AttentionCall(None, q, k, k, 3, split_in=True))
    exact = out.double() * (truth * (5 + 300.0)).clamp(min=1.0).view(-1, 1, 1)
    assert relative_l2(got, nearest(exact, dtype)) < 2 * ROUNDING[dtype] + 1e-5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sharper_attention_stays_finite(dtype):
    q = noise((1, 2, 9, 8), 0, dtype, 20000.0).clamp(-60000, 60000)
    got = Strength(temperature=0.05).sharpen(q)
    assert torch.isfinite(got).all() and relative_l2(got, nearest(q.double() / 0.05, dtype)) < 2 * ROUNDING[dtype]
