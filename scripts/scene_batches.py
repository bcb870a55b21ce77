"""Batches for training the model of scenes, drawn as asked for: noisy latents, times, prompts, the flow wanted."""

import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import scenes
from batches import draw_times

from attention.demo import prompt, scene_codec, scene_prompt

Grid = tuple[int, int, int]


def draw_latent(scene: scenes.Scene, grid: Grid) -> Tensor:
    """The scenes' latents (B, 128, T, Y, X)."""
    at, angle = scenes.place_shapes(scene, scene_codec.place_tokens(grid)[0])
    signs = prompt.PALETTE[scene.colour]
    return scene_codec.encode_shapes(at, angle, scene.radius, scene.form, signs, 1.0 - scene.front, grid)


def make_batch(count: int, grid: Grid, generator: torch.Generator, empty: float = 0.1):
    """Noisy latents (B, 128, T, Y, X), times (B,), prompts (B, 7, 64) and the flow wanted (B, ACTIVE, T, Y, X).

    The unused channels carry unit noise at every time: their weights in `proj_out` are zero, so Euler sampling leaves
    them as they were drawn, and they go on telling tokens apart. A share `empty` of the prompts is empty.
    """
    words = scenes.draw_words(count, generator)
    clip = draw_latent(scenes.draw_scene(words, generator), grid)[:, : scene_codec.ACTIVE]
    kept = torch.rand(count, 1, 1, generator=generator) >= empty
    t = draw_times(count, generator)
    noise = torch.randn(count, scene_codec.CHANNELS, *grid, generator=generator)
    used = noise[:, : scene_codec.ACTIVE]
    noisy = torch.cat((torch.lerp(clip, used, t[:, None, None, None, None]), noise[:, scene_codec.ACTIVE :]), 1)
    return noisy, t, scene_prompt.encode_numbers(words) * kept, used - clip
