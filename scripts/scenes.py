"""Scenes: two textured shapes that move, turn, pass in front of each other and leave the frame; drawn from a prompt.

    python scripts/scenes.py red disc right blue square up "first in front" --out scene.webp

Both shapes pass near the frame's centre at half time, so the prompt nearly decides the clip. `draw_clip` gives the
drawn truth of a prompt. Shapes: B clips of 2 shapes, F frames, H = W pixels. Distances are in frame widths, times from
-0.5 to 0.5.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from attention.demo import paint, prompt, scene_codec, scene_prompt, shapes

MIDDLE = ((0.42, 0.42), (0.58, 0.58))  # where each shape is at half time
VARIED = 0.06  # the largest difference of a speed or radius, as a share
DRIFT = 0.04  # the largest distance from there, along each axis
SPEED = 1.05  # frame widths per clip
RADIUS = scene_codec.RADIUS
TURN = 0.55 * math.pi  # per clip
PHASE = 0.08 * math.pi  # the largest angle off the direction at half time


@dataclass(frozen=True)
class Scene:
    """B clips: word numbers (B, 2), the shape in front (B,), centre (B, 2, 2), speed, radius, phase (B, 2)."""

    colour: Tensor
    form: Tensor
    direction: Tensor
    front: Tensor
    centre: Tensor
    speed: Tensor
    radius: Tensor
    phase: Tensor

    def take(self, rows) -> "Scene":
        """Return the scenes of some rows."""
        return Scene(*(getattr(self, field.name)[rows] for field in fields(self)))


def draw_scene(words: Tensor, generator: torch.Generator, spread: float = 1.0) -> Scene:
    """One random scene for each row of word numbers (B, 7); `spread` 0 gives the middle of all."""
    count = len(words)

    def around(*size):
        return spread * (2 * torch.rand(count, *size, generator=generator) - 1)

    return Scene(
        words[:, [0, 3]],
        words[:, [1, 4]],
        words[:, [2, 5]],
        words[:, 6],
        torch.tensor(MIDDLE) + DRIFT * around(2, 2),
        SPEED * (1 + VARIED * around(2)),
        RADIUS * (1 + VARIED * around(2)),
        PHASE * around(2),
    )


def draw_words(count: int, generator: torch.Generator) -> Tensor:
    """Random word numbers (B, 7); the two shapes differ in colour and direction."""

    def two(size):
        first = torch.randint(size, (count,), generator=generator)
        return first, (first + 1 + torch.randint(size - 1, (count,), generator=generator)) % size

    colours, directions = two(len(scene_prompt.COLOURS)), two(len(scene_prompt.DIRECTIONS))
    forms = torch.randint(len(scene_prompt.FORMS), (2, count), generator=generator)
    front = torch.randint(2, (count,), generator=generator)
    return torch.stack((colours[0], forms[0], directions[0], colours[1], forms[1], directions[1], front), 1)


def place_shapes(scene: Scene, times: Tensor) -> tuple[Tensor, Tensor]:
    """Where each shape is, (B, 2, F, 2) as row and column in frame widths, and its angle (B, 2, F)."""
    angle = scene.direction * (math.pi / 4)
    ahead = torch.stack((angle.sin(), angle.cos()), -1)
    ahead = ahead / ahead.abs().amax(-1, keepdim=True)
    at = scene.centre[:, :, None] + (scene.speed[:, :, None] * times)[..., None] * ahead[:, :, None]
    return at, (angle + scene.phase)[:, :, None] + TURN * times


def place_points(scene: Scene, times: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Each point as each shape sees it, along and across its own axis: two of (B, 2, F, H, W)."""
    at, turned = place_shapes(scene, times)
    dy = rows[:, None] - at[..., 0, None, None]
    dx = columns[None, :] - at[..., 1, None, None]
    turned = turned[..., None, None]
    return shapes.turn(dy, dx, turned.cos(), turned.sin())


def _of_form(values: Tensor, form: Tensor) -> Tensor:
    """Those of each shape's form (B, 2), of values (B, 2, ..., forms)."""
    number = form.reshape(*form.shape, *[1] * (values.ndim - 2)).expand(*values.shape[:-1], 1)
    return values.gather(-1, number)[..., 0]


def measure_distance(along: Tensor, across: Tensor, form: Tensor, radius: Tensor) -> Tensor:
    """How far inside its shape's edge each point is (negative outside), (B, 2, F, H, W)."""
    return _of_form(shapes.measure_distances(along, across, radius[..., None, None, None]), form)


def draw_texture(along: Tensor, across: Tensor, form: Tensor, radius: Tensor) -> Tensor:
    """A field that is zero along the lines of each shape's texture, (B, 2, F, H, W)."""
    return _of_form(shapes.draw_textures(along, across, radius[..., None, None, None]), form)


def draw_fields(scene: Scene, times: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """How far inside its edge each shape's points are, textures, (B, 2, F, H, W) each, and the background (H, W)."""
    middle = (torch.arange(size) + 0.5) / size
    along, across = place_points(scene, times, middle, middle)
    inside = measure_distance(along, across, scene.form, scene.radius)
    return inside, draw_texture(along, across, scene.form, scene.radius), paint.draw_ground(size, size)


def list_times(frames: int) -> Tensor:
    """The middle of each of the frames (F,)."""
    return (torch.arange(frames) + 0.5) / frames - 0.5


def draw_clip(scene: Scene, frames: int = 64, size: int = 256, part: slice = slice(None)) -> Tensor:
    """The clips, antialiased: the drawn truth, or `part` of its frames; returns (B, F, H, W, 3) in 0 to 1."""
    inside, texture, ground = draw_fields(scene, list_times(frames)[part], size)
    signs = prompt.PALETTE[scene.colour]
    signs = signs[:, :, :, None, None, None].expand(*signs.shape, *inside.shape[2:])
    first = (1.0 - scene.front)[:, None, None, None]
    return paint.paint_layers(inside * size, texture, ground, signs, first)


def draw_prompt(words: Sequence[str], seed: int = 0, frames: int = 64, size: int = 256) -> Tensor:
    """The drawn truth (F, H, W, 3) of a prompt of seven words, one of many by its seed."""
    numbers = scene_prompt.number_words(words)[None]
    return draw_clip(draw_scene(numbers, torch.Generator().manual_seed(seed)), frames, size)[0]


def main() -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs=len(scene_prompt.KINDS), help=", ".join(scene_prompt.KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("scene.webp"))
    args = parser.parse_args()
    clip = draw_prompt(args.words, args.seed, args.frames, args.size)
    pictures = [Image.fromarray(frame.numpy()) for frame in (clip * 255).round().byte()]
    pictures[0].save(args.out, save_all=True, append_images=pictures[1:], duration=40, loop=0)


if __name__ == "__main__":
    main()
