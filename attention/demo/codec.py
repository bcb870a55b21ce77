"""The demo model's fixed latent codec: low frequencies of a 3-D cosine transform, block by block.

One latent token stands for 8 frames of 32 x 32 pixels, the scale of LTX-Video's own autoencoder. Of each block and
colour plane 24 coefficients are kept, so 72 of the 128 latent channels are used and the others are zero. Shapes are
blurred before the transform and their edges sharpened after it: few coefficients then give a crisp picture.

Shapes: B batch, F frames, H, W pixels, T = F/8, Y = H/32, X = W/32 latent grid.
"""

import math

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

CHANNELS = 128
BLOCK = (8, 32, 32)
# Planes into blocks of f x h x w pixels, and back.
CUT = "b (t f) (y h) (x w) -> b t y x (f h w)"
JOINED = "b t y x (f h w) -> b (t f) (y h) (x w)"
GREY = 0.5
# How far a colour lies from grey in each plane, and how wide (pixels) an edge is inside the latent.
DEPTH = 0.4
BLUR = 16.0
FREQUENCIES = tuple(
    [(0, y, x) for y in range(4) for x in range(4 - y)]
    + [(0, 2, 2)]
    + [(1, y, x) for y in range(4) for x in range(4 - y)]
    + [(2, 0, 0), (2, 0, 1), (2, 1, 0)]
)
ACTIVE = 3 * len(FREQUENCIES)
# One over the deviation of each coefficient's square root, so that small coefficients stay small; the lowest has 1.
SCALES = (
    8.72,
    16.8,
    28.5,
    48.0,
    16.8,
    27.7,
    44.0,
    28.5,
    44.0,
    48.0,
    64.0,
    24.7,
    32.0,
    43.0,
    63.7,
    32.0,
    44.0,
    59.5,
    43.0,
    59.5,
    63.7,
    69.0,
    70.0,
    70.0,
)


def _scales() -> Tensor:
    return torch.tensor(SCALES)


def _cosines(size: int, count: int) -> Tensor:
    """Return the `count` lowest cosines sampled at `size` points, (count, size), mean square 1."""
    order, at = torch.arange(count)[:, None], torch.arange(size)[None] + 0.5
    return torch.cos(math.pi * order * at / size) * torch.where(order == 0, 1.0, math.sqrt(2.0))


def _basis(block: tuple[int, int, int]) -> Tensor:
    """Return the kept 3-D cosines of one block, (K, f, h, w), mean square 1 each."""
    t, y, x = (_cosines(size, 4) for size in block)
    return torch.stack([t[i][:, None, None] * y[j][:, None] * x[k] for i, j, k in FREQUENCIES])


def encode_planes(planes: Tensor, block: tuple[int, int, int] = BLOCK) -> Tensor:
    """Return the scaled coefficients (B, 24, T, Y, X) of planes without their grey.

    planes: (B, F, H, W).
    block: frames, rows and columns of pixels per token; a smaller one encodes a clip drawn at a lower resolution into
        nearly the same numbers.
    """
    frames, rows, columns = block
    blocks = rearrange(planes, CUT, f=frames, h=rows, w=columns)
    basis = _basis(block).to(planes).flatten(1) * (_scales().to(planes) / math.prod(block))[:, None]
    return (blocks @ basis.T).movedim(-1, 1)


def decode_planes(coefficients: Tensor) -> Tensor:
    """Undo `encode_planes`: (B, 24, T, Y, X) to (B, F, H, W)."""
    basis = _basis(BLOCK).to(coefficients).flatten(1) / _scales().to(coefficients)[:, None]
    frames, rows, columns = BLOCK
    return rearrange(coefficients.movedim(1, -1) @ basis, JOINED, f=frames, h=rows, w=columns)


def encode(clip: Tensor) -> Tensor:
    """Encode a clip (B, F, H, W, 3) in 0..1 into a latent (B, 128, T, Y, X).

    F must be a multiple of 8, H and W of 32: ValueError otherwise.
    """
    if any(size % factor for size, factor in zip(clip.shape[1:4], BLOCK)):
        raise ValueError(
            f"clip of {tuple(clip.shape[1:4])} (frames, rows, columns): each must be a multiple of {BLOCK}"
        )
    planes = (clip - GREY).movedim(-1, 1).flatten(0, 1)
    size = int(BLUR) - 1
    planes = F.avg_pool2d(F.pad(planes, [size // 2] * 4, mode="replicate"), size, stride=1)
    coefficients = encode_planes(planes).unflatten(0, (-1, 3)).flatten(1, 2)
    return F.pad(coefficients, (0, 0, 0, 0, 0, 0, 0, CHANNELS - ACTIVE))


def decode(latent: Tensor) -> Tensor:
    """Decode a latent (B, 128, T, Y, X) into a clip (B, F, H, W, 3) in 0..1, the shapes' edges sharp again."""
    coefficients = latent[:, :ACTIVE].float().unflatten(1, (3, -1)).flatten(0, 1)
    planes = decode_planes(coefficients).unflatten(0, (-1, 3)).movedim(1, -1)
    # A colour lies sqrt(3) * DEPTH from grey; half of that is where the edge of a blurred shape was.
    length = planes.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    cover = length / (math.sqrt(3.0) * DEPTH)
    cover = ((cover - 0.5) * (BLUR / 3.0) + 0.5).clamp(0, 1)
    planes = planes / length * cover * (math.sqrt(3.0) * DEPTH)
    return (planes + GREY).clamp(0, 1)
