"""One attention output that is kept: as it is, or as whole numbers of eight bits."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .settings import EIGHT_BIT, ReuseSettings

LARGEST = 127
# Numbers that are turned into eight bits at a time, so that little memory is needed beside the output itself.
PART = 1 << 24
# Tokens of an output that errors are measured on, at most.
SAMPLE = 256


def size_of(like: torch.Tensor, heads: int, settings: ReuseSettings) -> int:
    """Count the bytes that are kept of an output like this one.

    like: (..., L, channels).
    heads: as a KeptOutput has it.
    """
    return bytes_of(like.numel() // like.shape[-1], like.shape[-1], heads, like.element_size(), settings)


def bytes_of(tokens: int, channels: int, heads: int, itemsize: int, settings: ReuseSettings) -> int:
    """Count the bytes that are kept of an output.

    channels: of a token, of all its heads.
    heads: of a token: each has a scale in eight bits.
    itemsize: bytes of a number in the model's dtype.
    """
    return tokens * (channels + 4 * heads if settings.storage == EIGHT_BIT else channels * itemsize)


class KeptOutput:
    """Keeps one output in memory of its own, which later outputs like it are written into.

    like: (..., L, channels) such an output; not read.
    heads: how many the last axis of `like` has side by side: 1 where heads are an axis of their own.
    split: whether they are.
    step: of what is kept, from 0; -1 before anything is.
    mask: that it was computed with, None without one.
    """

    __slots__ = ("_data", "_parts", "_scale", "device", "dtype", "mask", "size", "split", "step")

    def __init__(self, like: torch.Tensor, heads: int, split: bool, settings: ReuseSettings):
        self.device, self.dtype, self.split = like.device, like.dtype, split
        self.step, self.mask, self.size = -1, None, size_of(like, heads, settings)
        where, eight = "cpu" if settings.offload else like.device, settings.storage == EIGHT_BIT
        self._parts = (heads, -1)
        self._data = torch.empty(like.shape, dtype=torch.int8 if eight else like.dtype, device=where)
        scales = (*like.shape[:-1], heads, 1)
        self._scale = torch.empty(scales, dtype=torch.float32, device=where) if eight else None

    def fits(self, out: torch.Tensor, split: bool) -> bool:
        """Tell whether an output can be written into this memory."""
        alike = out.shape == self._data.shape and out.dtype == self.dtype and out.device == self.device
        return alike and split is self.split

    def put(self, out: torch.Tensor) -> None:
        """Keep a copy of an output."""
        if self._scale is None:
            self._data.copy_(out)
            return
        for where in self._spans(out):
            part = out[..., where, :].unflatten(-1, self._parts).float()
            scale = part.abs().amax(-1, keepdim=True).clamp_min_(torch.finfo(torch.float32).tiny).div_(LARGEST)
            self._data[..., where, :].copy_((part / scale).round_().flatten(-2))
            self._scale[..., where, :, :].copy_(scale)

    def give(self) -> torch.Tensor:
        """Return what is kept, in memory that is the caller's own."""
        if self._scale is None:
            return self._data.to(self.device, copy=True)
        out = torch.empty(self._data.shape, dtype=self.dtype, device=self.device)
        for where in self._spans(out):
            out[..., where, :] = self._read(where)
        return out

    def sample(self) -> torch.Tensor:
        """Return some tokens of what is kept, in float32: those that `sample_of` takes."""
        return self._read(_sampled(self._data))

    def _read(self, where: slice) -> torch.Tensor:
        data = self._data[..., where, :].to(self.device)
        if self._scale is None:
            return data.float()
        return data.unflatten(-1, self._parts).float().mul_(self._scale[..., where, :, :].to(self.device)).flatten(-2)

    @staticmethod
    def _spans(out: torch.Tensor) -> Iterator[slice]:
        length = out.shape[-2]
        step = max(1, PART * length // max(1, out.numel()))
        return (slice(first, first + step) for first in range(0, length, step))


def sample_of(out: torch.Tensor) -> torch.Tensor:
    """Return some tokens of an output, evenly spread: a view of (..., at most SAMPLE, channels)."""
    return out[..., _sampled(out), :]


def _sampled(out: torch.Tensor) -> slice:
    return slice(None, None, max(1, -(-out.shape[-2] // SAMPLE)))
