"""Batches for training the demo model: noisy clips, times, prompts and the flow wanted."""

import math
import sys
from pathlib import Path

import torch
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import clips

from attention.demo import codec

GRID = (8, 8, 8)


class Pool:
    """Clips drawn once without colour; each batch picks some and paints them."""

    def __init__(self, count: int, seed: int, cache: Path):
        generator = torch.Generator().manual_seed(seed)
        self.scene = clips.draw_scene(count, generator)
        self.scene.colour.fill_(clips.prompt.COLOURS.index("white"))
        if cache.exists():
            self.planes = torch.load(cache)
            return
        parts = []
        for start in tqdm(range(0, count, 64), desc="draw", ncols=80, mininterval=5):
            part = clips.Scene(**{name: value[start : start + 64] for name, value in vars(self.scene).items()})
            parts.append(clips.draw_latent(part, GRID)[:, : codec.ACTIVE // 3].half())
        self.planes = torch.cat(parts)
        cache.parent.mkdir(exist_ok=True)
        torch.save(self.planes, cache)

    def draw(self, count: int, generator: torch.Generator):
        """Latents (B, 72, T, Y, X) and prompt tokens (B, 3, 32), one in ten of them empty."""
        pick = torch.randint(len(self.planes), (count,), generator=generator)
        colour = torch.randint(len(clips.prompt.COLOURS), (count,), generator=generator)
        scene = clips.Scene(colour, *(value[pick] for name, value in vars(self.scene).items() if name != "colour"))
        signs = clips.prompt.PALETTE[colour]
        latent = (signs[:, :, None, None, None, None] * self.planes[pick].float()[:, None]).flatten(1, 2)
        kept = torch.rand(count, 1, 1, generator=generator) >= 0.1
        return latent, clips.encode_words(scene) * kept


def draw_times(count: int, generator: torch.Generator) -> torch.Tensor:
    """Times in 0..1, half of them shifted as far as ComfyUI samples LTXV, exp(2.37), half less far."""
    uniform = torch.rand(count, generator=generator)
    shift = torch.where(torch.rand(count, generator=generator) < 0.5, math.exp(2.37), 2.0)
    return shift * uniform / (1 + (shift - 1) * uniform)


def make_batch(pool: Pool, count: int, generator: torch.Generator):
    """Noisy latents (B, 128, T, Y, X), times (B,), prompt tokens (B, 3, 32) and the flow wanted (B, 72, T, Y, X).

    The unused channels carry unit noise at every time: their weights in `proj_out` are zero, so Euler sampling leaves
    them as they were drawn, and they go on telling tokens apart.
    """
    clip, context = pool.draw(count, generator)
    t = draw_times(count, generator)
    noise = torch.randn(count, codec.CHANNELS, *GRID, generator=generator)
    used = noise[:, : codec.ACTIVE]
    noisy = torch.cat((torch.lerp(clip, used, t[:, None, None, None, None]), noise[:, codec.ACTIVE :]), 1)
    return noisy, t, context, used - clip
