"""Clips that look filmed, and what can be wrong with one: to see what the clip metrics make of each fault.

A clip is a camera that moves over a textured ground while a textured thing crosses it, with a little grain. The texture
has about the spectrum of photographs, amplitude over frequency: D. J. Field, "Relations between the statistics of
natural images and the response properties of cortical cells", JOSA A 1987. T frames of H = W pixels, RGB in 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import clips
import torch
from torch import Tensor
from torch.nn import functional as F

GRAIN, SIZE = 0.003, 96


@dataclass(frozen=True)
class Camera:
    """What the camera does from frame to frame: pixels to the right and down, growth, degrees."""

    right: float = 0.0
    down: float = 0.0
    zoom: float = 1.0
    turn: float = 0.0


# Each is legitimate: no measure may take it for a fault.
CAMERAS = {
    "pan": Camera(1.7, 0.6),
    "fast pan": Camera(6.3, 2.2),
    "zoom": Camera(0.4, 0.0, 1.02),
    "turn": Camera(0.5, 0.3, 1.0, 1.0),
    "stand": Camera(),
}


def draw_texture(size: int, generator: torch.Generator) -> Tensor:
    """(1, 3, size, size), grey more than colour."""
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    frequency = torch.hypot(rows, columns).clamp(min=1 / size)
    planes = []
    for steep in (1.2, 1.6, 1.6, 1.6):
        plane = torch.fft.irfft2(torch.fft.rfft2(torch.randn(size, size, generator=generator)) / frequency**steep)
        planes.append((plane - plane.mean()) / plane.std())
    grey, *colours = planes
    return (0.5 + 0.14 * grey + 0.07 * torch.stack(colours)).clamp(0.03, 0.97)[None]


def look(texture: Tensor, camera: Camera, frame: int, size: int) -> Tensor:
    """What the camera sees of a texture in a frame, (1, 3, size, size)."""
    angle, scale = math.radians(camera.turn) * frame, camera.zoom**-frame * size / texture.shape[-1]
    shift = (-2 * frame * camera.right / texture.shape[-1], -2 * frame * camera.down / texture.shape[-1])
    turned = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    rows = [[scale * part for part in row] + [move] for row, move in zip(turned, shift)]
    grid = F.affine_grid(torch.tensor([rows]), (1, 3, size, size), align_corners=False)
    return F.grid_sample(texture, grid, "bicubic", "reflection", align_corners=False)


def film(camera: Camera, frames: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """A clip (T, H, W, 3): a thing crosses the frame in 24 frames, and goes on beyond."""
    random = torch.Generator().manual_seed(seed)
    ground, skin = draw_texture(4 * size, random), draw_texture(4 * size, random)
    scene, clip = clips.draw_scene(1, random), []
    # The thing's way, drawn for as many frames as there are, at the speed of 24.
    slow = clips.Scene(**{**vars(scene), "speed": scene.speed * frames / 24})
    cover = clips.draw_cover(slow, frames, size, 2 / size)[0]
    angle, speed = scene.direction.item() * math.pi / 4, scene.speed.item() * size / 24
    own = Camera(speed * math.cos(angle), speed * math.sin(angle))
    for frame in range(frames):
        over = look(skin, own, frame, size)
        seen = torch.lerp(look(ground, camera, frame, size), 0.2 + 0.8 * over, cover[frame])
        clip.append(seen[0].movedim(0, -1) + GRAIN * torch.randn(size, size, 3, generator=random))
    return torch.stack(clip).clamp(0, 1)


# --- faults: of a clip with more frames than are needed, the first `count` with the fault ----------------------------


def _gains(clip: Tensor, deviation: float) -> Tensor:
    gains = 1 + deviation * torch.randn(len(clip), generator=torch.Generator().manual_seed(1))
    return clip * gains[:, None, None, None]


def _flicker(share: float):
    return lambda clip, count: _gains(clip[:count], share).clamp(0, 1)


def _noise(clip: Tensor, count: int) -> Tensor:
    random = torch.randn(clip[:count].shape, generator=torch.Generator().manual_seed(2))
    return (clip[:count] + 0.03 * random).clamp(0, 1)


def _jitter(clip: Tensor, count: int) -> Tensor:
    moves = 3 * torch.randn(count, 2, generator=torch.Generator().manual_seed(3))
    big = F.pad(clip[:count].movedim(-1, 1), (12, 12, 12, 12), mode="reflect")
    height, width = clip.shape[1:3]
    starts = (12 + moves.round().clamp(-12, 12)).int().tolist()
    cut = [big[n, :, y : y + height, x : x + width] for n, (y, x) in enumerate(starts)]
    return torch.stack(cut).movedim(1, -1)


def _taken(choose: Callable[[int], list[int]]):
    return lambda clip, count: clip[choose(count)]


def _dropped(count: int) -> list[int]:
    return [n + (n > count // 3) + (n > count // 2) + (n > 3 * count // 4) for n in range(count)]


def _to_and_fro(count: int) -> list[int]:
    return [min(n % 10, 10 - n % 10) for n in range(count)]


def _change_speed(count: int) -> list[int]:
    return [sum(1 + n // 3 % 2 for n in range(frame)) for frame in range(count)]


def _swap(clip: Tensor, count: int) -> Tensor:
    """From half time on another thing in the middle: what is there of the clip upside down, in other colours."""
    mask = _ellipse(clip)
    other = clip[:count].flip(1).roll(1, -1)
    late = (torch.arange(count) >= count // 2).float()[:, None, None, None]
    return torch.lerp(clip[:count], other, mask * late)


def _ellipse(clip: Tensor) -> Tensor:
    rows, columns = (torch.linspace(-1, 1, n) for n in clip.shape[1:3])
    return ((0.6 - torch.hypot(rows[:, None], columns)) * 10).clamp(0, 1)[None, :, :, None]


def _blur_in_time(clip: Tensor, count: int) -> Tensor:
    around = [clip[max(0, n - 2) : n + 3].mean(0) for n in range(count)]
    return torch.stack(around)


def _blur(clip: Tensor, count: int) -> Tensor:
    return F.avg_pool2d(clip[:count].movedim(-1, 1), 5, 1, 2, count_include_pad=False).movedim(1, -1)


def _ghost(clip: Tensor, count: int) -> Tensor:
    return torch.stack([0.65 * clip[n] + 0.35 * clip[max(0, n - 3)] for n in range(count)])


def _turn_colours(clip: Tensor, count: int) -> Tensor:
    late = torch.linspace(0, 1, count)[:, None, None, None]
    return (clip[:count] * (1 + late * torch.tensor([0.25, 0.0, -0.25]))).clamp(0, 1)


def _burn(clip: Tensor, count: int) -> Tensor:
    """Colours grow stronger around their grey: the mean stays."""
    late = torch.linspace(0, 1, count)[:, None, None, None]
    grey = clip[:count].mean(-1, keepdim=True)
    return (grey + (clip[:count] - grey) * (1 + 1.5 * late)).clamp(0, 1)


def _cut(clip: Tensor, count: int) -> Tensor:
    other = clip.flip(0, 1, 2).roll(1, -1)
    return torch.cat([clip[: count // 2], other[: count - count // 2]])


def _bad_last(clip: Tensor, count: int) -> Tensor:
    bad = clip[:count].clone()
    bad[-1] = (0.7 * _blur(clip[count - 1 :], 1)[0] + 0.3).clamp(0, 1)
    return bad


def _black(clip: Tensor, count: int) -> Tensor:
    bad = clip[:count].clone()
    bad[count // 2] = 0
    return bad


def _seam(clip: Tensor, count: int) -> Tensor:
    """Half time: the rest is 4 % brighter and two frames further on, as where two windows of a long clip meet."""
    half = count // 2
    return torch.cat([clip[:half], (1.04 * clip[half + 2 : count + 2]).clamp(0, 1)])


FAULTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "brightness flicker, 1 %": _flicker(0.01),
    "brightness flicker, 4 %": _flicker(0.04),
    "noise, 3 %": _noise,
    "jitter, 3 pixels": _jitter,
    "dropped frames": _taken(_dropped),
    "doubled frames": _taken(lambda count: [n // 2 for n in range(count)]),
    "uneven speed": _taken(_change_speed),
    "another thing at half time": _swap,
    "blur over 5 frames": _blur_in_time,
    "blur, 5 pixels": _blur,
    "ghosting": _ghost,
    "frozen from half time": _taken(lambda count: [min(n, count // 2) for n in range(count)]),
    "frozen": _taken(lambda count: [0] * count),
    "loop of 5 frames": _taken(lambda count: [n % 5 for n in range(count)]),
    "loop to and fro": _taken(_to_and_fro),
    "colours turn warm": _turn_colours,
    "colours burn": _burn,
    "cut": _cut,
    "bad last frame": _bad_last,
    "black frame": _black,
    "seam": _seam,
}
