"""Synthetic clips: one coloured shape crosses the frame on grey, made on the fly.

Every clip passes near the frame's centre at half time, so the prompt nearly decides where the shape is in each
frame. Shapes: B batch, F frames, H = W pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attention.demo import codec, prompt

DRIFT = 0.08  # the largest distance from the centre at half time, in frame widths, along each axis
SPEED = 0.5  # frame widths per clip
RADIUS = 0.19  # frame widths


@dataclass(frozen=True)
class Scene:
    """B clips: word numbers (B,), and centre (B, 2), speed (B,), radius (B,) in frame widths."""

    colour: Tensor
    shape: Tensor
    direction: Tensor
    centre: Tensor
    speed: Tensor
    radius: Tensor


def draw_scene(count: int, generator: torch.Generator) -> Scene:
    """`count` random scenes."""

    def word(words):
        return torch.randint(len(words), (count,), generator=generator)

    def around(size):
        return 2 * torch.rand(*size, generator=generator) - 1

    return Scene(
        word(prompt.COLOURS),
        word(prompt.SHAPES),
        word(prompt.DIRECTIONS),
        0.5 + DRIFT * around((count, 2)),
        SPEED * (1 + 0.1 * around((count,))),
        RADIUS * (1 + 0.1 * around((count,))),
    )


def draw_cover(scene: Scene, frames: int, size: int, edge: float) -> Tensor:
    """How much of each pixel the shape covers; `edge` is the edge's width in frame widths; returns (B, F, H, W)."""
    angle = scene.direction * (torch.pi / 4)
    time = (torch.arange(frames) + 0.5) / frames - 0.5
    way = scene.speed[:, None] * time
    middle = (torch.arange(size) + 0.5) / size
    dx = middle[None, None, None, :] - (scene.centre[:, 0:1] + way * angle.cos()[:, None])[:, :, None, None]
    dy = middle[None, None, :, None] - (scene.centre[:, 1:2] + way * angle.sin()[:, None])[:, :, None, None]
    radius = scene.radius[:, None, None, None]
    far = (dx.square() + dy.square()).sqrt()
    distances = (
        far - radius,
        torch.maximum(dx.abs(), dy.abs()) - 0.9 * radius,
        (far - 0.72 * radius).abs() - 0.33 * radius,
    )
    kind = scene.shape[:, None, None, None]
    distance = torch.where(kind == 0, distances[0], torch.where(kind == 1, distances[1], distances[2]))
    return (0.5 - distance / edge).clamp(0, 1)


def draw_latent(scene: Scene, grid: tuple[int, int, int] = (8, 8, 8), size: int = 64) -> Tensor:
    """The clips' latents (B, 128, T, Y, X), drawn at `size` pixels: the codec keeps nothing finer."""
    frames = 8 * grid[0]
    edge = codec.BLUR / 256
    step = size // grid[1]
    planes = codec.encode_planes(codec.DEPTH * draw_cover(scene, frames, size, edge), (8, step, step))
    signs = prompt.PALETTE[scene.colour]
    latent = (signs[:, :, None, None, None, None] * planes[:, None]).flatten(1, 2)
    return torch.nn.functional.pad(latent, (0, 0) * 3 + (0, codec.CHANNELS - codec.ACTIVE))


def draw_clip(scene: Scene, frames: int = 64, size: int = 256) -> Tensor:
    """The clips themselves, antialiased; returns (B, F, H, W, 3) in 0..1."""
    cover = draw_cover(scene, frames, size, 1.5 / size)
    signs = prompt.PALETTE[scene.colour]
    return codec.GREY + codec.DEPTH * cover[..., None] * signs[:, None, None, None, :]


def encode_words(scene: Scene) -> Tensor:
    """The scenes' prompt tokens (B, 3, 32)."""
    rows = zip(scene.colour.tolist(), scene.shape.tolist(), scene.direction.tolist())
    return torch.cat(
        [prompt.encode_prompt(prompt.COLOURS[c], prompt.SHAPES[s], prompt.DIRECTIONS[d])[0] for c, s, d in rows]
    )
