"""Frames as they come, and the sentence when they cannot be measured."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Decoders go a little beyond 0 and 1; beyond this the values are of another scale, as 0 to 255.
MOST = 2.0


class Unmeasurable(ValueError):
    """Frames that nothing can be measured on; the message is a sentence for the user."""


def to_picture(frames: Tensor, index: int, device) -> Tensor:
    """Take one frame as (1, 3, H, W), float32, on `device`; 8 bits become 0 to 1.

    Raises `Unmeasurable` if it holds NaN or Inf, or values that are far from 0 to 1.
    """
    frame = frames[index].to(device, torch.float32).movedim(-1, 0)[None]
    if frames.dtype == torch.uint8:
        frame = frame / 255
    if not torch.isfinite(frame).all():
        raise Unmeasurable(f"Frame {index} holds NaN or Inf, so there is nothing to measure.")
    most = frame.abs().max().item()
    if most > MOST:
        raise Unmeasurable(f"Frame {index} holds values up to {most:.4g}; colours from 0 to 1 can be measured.")
    return frame[:, :3] if frame.shape[1] >= 3 else frame[:, :1].expand(-1, 3, -1, -1)


def check_shape(frames: Tensor) -> None:
    """Raise `Unmeasurable` unless `frames` is (T, H, W, C) with at least one of each, of a type that is understood."""
    if frames.ndim != 4 or 0 in frames.shape:
        raise Unmeasurable(f"Frames of shape {tuple(frames.shape)} are no clip: (frames, rows, columns, colours) is.")
    if not (frames.is_floating_point() or frames.dtype == torch.uint8):
        name = str(frames.dtype).removeprefix("torch.")
        raise Unmeasurable(f"Frames of {name} cannot be measured: floating point from 0 to 1 can, and uint8.")


def describe_size(frames: Tensor) -> str:
    """Say how many frames of which size, width first: `81 frames of 832 x 480`."""
    count, height, width = frames.shape[:3]
    return f"{count} frame{'s' * (count != 1)} of {width} x {height}"


def to_luma(picture: Tensor) -> Tensor:
    """Compute luma (1, 1, H, W) of a picture (1, 3, H, W): the weights of ITU-R BT.709 on the values as they are."""
    return (picture * picture.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)


def to_laplacian(picture: Tensor) -> Tensor:
    """Compute 4 centre - up - down - left - right of the luma of (1, 3, H, W), (1, 1, H, W)."""
    luma = to_luma(picture)
    wide = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    return 4 * luma - around
