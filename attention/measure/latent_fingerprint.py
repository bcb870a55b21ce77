"""A few numbers by which a latent is known again: of all its values, in the types that a host may cast it to."""

from __future__ import annotations

from functools import cache

import torch

from ..core.reference import relative_l2

PIECES = 256
# A latent may be cast on its way (--fp16-intermediates); compared in the type it has come to, it is the same again.
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# Cast and cast back it differs by 3e-4 (float16) or 2e-3 (bfloat16); another clip by about 1.4.
SAME = 0.01


class LatentFingerprint:
    """What is kept of one tensor: its shape, and 2 * PIECES numbers for each of DTYPES."""

    def __init__(self, tensor: torch.Tensor):
        self.shape = tuple(tensor.shape)
        self.digests = {dtype: digest(tensor.detach().to(dtype)) for dtype in DTYPES}

    def apart(self, tensor: torch.Tensor) -> float:
        """Estimate the relative L2 between this and `tensor` by their digests; infinite for another shape."""
        if tuple(tensor.shape) != self.shape:
            return float("inf")
        known = self.digests.get(tensor.dtype, self.digests[torch.float32])
        return relative_l2(digest(tensor.detach()), known)


def digest(tensor: torch.Tensor) -> torch.Tensor:
    """Sum `tensor` with random signs over pieces of it, then count how much of each is NaN or Inf.

    Returns (2 * PIECES,), float64.

    Every value counts: where a mask keeps most of a clip, two runs differ in the rest alone.
    """
    flat = tensor.reshape(-1).to("cpu", torch.float64)
    finite = flat.isfinite()
    whole = bool(finite.all())
    values = flat if whole else flat.where(finite, 0.0)
    size = -(-len(flat) // PIECES)
    sums = _in_pieces(values * _signs(len(flat)), size)
    return torch.cat([sums, torch.zeros(PIECES) if whole else _in_pieces((~finite).double(), size)])


def _in_pieces(values: torch.Tensor, size: int) -> torch.Tensor:
    padded = torch.zeros(PIECES * size, dtype=torch.float64)
    padded[: len(values)] = values
    return padded.view(PIECES, size).sum(dim=1)


def _signs(length: int) -> torch.Tensor:
    """Make (length,) of 1 and -1 in no order that a picture could have. Without them a shifted mean would be all."""
    pattern = _pattern()
    return pattern.repeat(-(-length // len(pattern)))[:length]


@cache
def _pattern() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (4093,), generator=random).double() * 2 - 1
