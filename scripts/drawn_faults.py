"""Drawn truth and the same with a fault: what is wrong with each clip, and how much, is known.

A `Shot` is the middle of a drawn scene: two textured shapes pass in front of each other, over a ground that stands
still. What can be wrong with it: the faults of filmed_clips.py, and those of attention that sees too little, whose
shapes jump, change or flicker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import filmed_clips
import scenes
import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8


@dataclass(frozen=True)
class Shot:
    """One scene, seen for `count` frames around half time; it goes on before and after, at the same speed."""

    scene: scenes.Scene
    count: int = 24
    size: int = 96

    def draw(self, first: int = 0, count: int | None = None, scene: scenes.Scene | None = None) -> Tensor:
        """Draw (T, H, W, 3): the truth, other frames of it, or the same frames of another scene."""
        start = self.count + first
        part = slice(start, start + (self.count if count is None else count))
        return scenes.draw_clip(scene or self.scene, 3 * self.count, self.size, part)[0]

    def mask(self, shape: int = 0) -> Tensor:
        """Mark what one shape covers, (T, H, W), 0 or 1, as if nothing were in front of it."""
        times = scenes.list_times(3 * self.count)[self.count : 2 * self.count]
        return (scenes.draw_fields(self.scene, times, self.size)[0][0, shape] > 0).float()


def draw_shot(seed: int, count: int = 24, size: int = 96) -> Shot:
    """A random prompt's scene."""
    random = torch.Generator().manual_seed(seed)
    return Shot(scenes.draw_scene(scenes.draw_words(1, random), random), count, size)


# --- faults of the scene: changes of it, and when they are seen -------------------------------------------------------


def _next_colour(scene: scenes.Scene) -> scenes.Scene:
    return replace(scene, colour=(scene.colour + torch.tensor([1, 0])) % 8)


def _next_form(scene: scenes.Scene) -> scenes.Scene:
    return replace(scene, form=(scene.form + torch.tensor([1, 0])) % 4)


def _next_order(scene: scenes.Scene) -> scenes.Scene:
    return replace(scene, front=1 - scene.front)


def _faded(change, weights: Callable[[Tensor], Tensor]):
    """Mix the changed scene in, as much in each frame as `weights` of the time from 0 to 1 says."""

    def fault(shot: Shot) -> Tensor:
        late = weights(torch.linspace(0, 1, shot.count))[:, None, None, None]
        return torch.lerp(shot.draw(), shot.draw(scene=change(shot.scene)), late)

    return fault


def _to_and_fro(change):
    return _faded(change, lambda time: (torch.arange(len(time)) % 2).float())


def _from_half(change):
    return _faded(change, lambda time: (time > 0.5).float())


def _creeping(change):
    return _faded(change, lambda time: time)


def _shaken(change: Callable[[scenes.Scene, Tensor], scenes.Scene]):
    """Draw each frame of another scene; `change` gets the scene and two random places (2, 2)."""

    def fault(shot: Shot) -> Tensor:
        shakes = torch.randn(shot.count, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        return torch.cat([shot.draw(n, 1, change(shot.scene, shakes[n])) for n in range(shot.count)])

    return fault


def jump(far: float):
    """Make the fault of shapes that are `far` frame widths or so from their places, elsewhere in each frame."""
    return _shaken(lambda scene, shake: replace(scene, centre=scene.centre + far * shake))


# --- faults of the picture --------------------------------------------------------------------------------------------


def _filmed(name: str):
    return lambda shot: filmed_clips.FAULTS[name](shot.draw(count=2 * shot.count), shot.count)


def _mosaic(shot: Shot) -> Tensor:
    clip = shot.draw().movedim(-1, 1)
    blocks = F.interpolate(F.avg_pool2d(clip, BLOCK), clip.shape[2:])
    return torch.lerp(clip, blocks, 0.5).movedim(1, -1)


def _cut(shot: Shot) -> Tensor:
    """From half time on a darker scene, the other way round and seen from nearer."""
    clip, half = shot.draw(), shot.count // 2
    near = F.interpolate(clip[half:].movedim(-1, 1), scale_factor=1.7, mode="bilinear", antialias=False)
    other = 0.6 * near[..., -shot.size :, -shot.size :].flip(1, 3).movedim(1, -1)
    return torch.cat([clip[:half], other])


def weaken(fault, share: float = 0.5):
    """Make a weaker fault: so much of the way from the truth to it."""
    return lambda shot: torch.lerp(shot.draw(), fault(shot), share)


# Faults that are more of the same between truth and fault: half of each is tried as well.
GRADED = (
    "brightness flicker, 4 %", "noise, 3 %", "blur over 5 frames", "blur, 5 pixels", "ghosting", "colours turn warm",
    "colours burn",
)  # fmt: skip
FAULTS: dict[str, Callable[[Shot], Tensor]] = {
    **{name: _filmed(name) for name in filmed_clips.FAULTS if name not in ("cut", "another thing at half time")},
    "cut": _cut,
    "mosaic": _mosaic,
    "shapes jump": jump(0.03),
    "size shakes": _shaken(lambda scene, shake: replace(scene, radius=scene.radius * (1 + 0.15 * shake[:, 0]))),
    "turn shakes": _shaken(lambda scene, shake: replace(scene, phase=scene.phase + 0.4 * shake[:, 0])),
    "order to and fro": _to_and_fro(_next_order),
    "colour to and fro": _to_and_fro(_next_colour),
    "another colour at half time": _from_half(_next_colour),
    "another form at half time": _from_half(_next_form),
    "colour creeps": _creeping(_next_colour),
    "form creeps": _creeping(_next_form),
}
