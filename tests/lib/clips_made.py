"""Clips whose motion is known: still, panned, with an object."""

from __future__ import annotations

import torch
from torch.nn import functional as F

FRAMES, HEIGHT, WIDTH = 6, 70, 91


def texture(height=HEIGHT, width=WIDTH, seed=0, grain=6):
    """(H, W, 3) in 0.1 to 0.9: smooth noise with details of about `grain` pixels."""
    random = torch.rand(1, 3, height // grain + 4, width // grain + 4, generator=torch.Generator().manual_seed(seed))
    return 0.1 + 0.8 * F.interpolate(random, (height, width), mode="bicubic").clamp(0, 1)[0].movedim(0, -1)


def make_pan(columns, rows, frames=FRAMES, seed=0):
    """A camera over a large texture: what is seen moves by (columns, rows) pixels from frame to frame."""
    large = texture(3 * HEIGHT, 3 * WIDTH, seed)
    starts = [(HEIGHT - rows * n, WIDTH - columns * n) for n in range(frames)]
    return torch.stack([large[y : y + HEIGHT, x : x + WIDTH] for y, x in starts])


def make_still(frames=FRAMES, seed=0):
    return make_pan(0, 0, frames, seed)


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make_object(seeds, step=2):
    """(clip, mask (1, H, W)): a textured square, each frame's from a seed, moving over a still background."""
    clip, mask = make_still(len(seeds), 50), torch.zeros(1, HEIGHT, WIDTH)
    mask[:, 20:50, 20:50] = 1
    for index, seed in enumerate(seeds):
        left = 20 + step * index
        clip[index, 20:50, left : left + 30] = texture(30, 30, seed, grain=10)
    return clip, mask
