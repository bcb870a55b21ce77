"""Reads a clip of a scene: colours, forms, directions, and which shape is in front. Fixed rules, nothing learnt.

A pixel belongs to the colour whose light or dark tone is nearest, or to the background. A shape is read in the frames
in which it is whole: away from the border, and with about as much area as it ever has. Shapes: F frames, H, W pixels.
"""

import math
from dataclasses import dataclass
from functools import cache

import scenes
import torch
from torch import Tensor
from torch.nn import functional as F

from attention.demo import paint, prompt, scene_prompt, shapes

ANGLES = 24  # rotations that a form is compared with
GRID = 40  # samples along one side of what is compared
REACH = 1.25  # half that side, in roots of the shape's area
WHOLE = 8  # frames that forms are read in
COUNTED = 0.004  # of the frame: smaller than this is no shape
KEPT = 0.94  # of its full area a whole shape has at least
LOST = 0.04  # of its area a shape must lose to be seen behind the other


@dataclass(frozen=True)
class Reading:
    """What is seen: for each shape its form and direction or None, and the number of the one in front or None."""

    colours: tuple[str, str]
    forms: tuple[str | None, str | None]
    directions: tuple[str | None, str | None]
    front: int | None
    jump: float  # mean absolute second difference of the shapes' centres, in frame widths


def sort_pixels(clip: Tensor) -> Tensor:
    """The number of each pixel's colour, 8 for the background, of a clip (F, H, W, 3)."""
    signs = prompt.PALETTE
    paints = torch.cat((0.5 + signs * paint.LIGHT, 0.5 + signs * paint.DARK, torch.full((1, 3), 0.5)))
    nearest = torch.cat([torch.cdist(frame.flatten(0, 1), paints).argmin(-1)[None] for frame in clip])
    return torch.where(nearest == 16, 8, nearest % 8).reshape(clip.shape[:3])


def find_colours(pixels: Tensor) -> tuple[str, str]:
    """The two colours that most pixels have, the most frequent first."""
    counts = torch.bincount(pixels.flatten(), minlength=9)[:8]
    return tuple(scene_prompt.COLOURS[number] for number in counts.argsort(descending=True)[:2].tolist())


def find_centres(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Area (F,) in frames, and centre (F, 2) as row and column in frame widths, of a mask (F, H, W)."""
    rows, columns = ((torch.arange(size) + 0.5) / size for size in mask.shape[1:])
    total = mask.sum((1, 2)).clamp(min=1e-6)
    centre = torch.stack(((mask.sum(2) @ rows) / total, (mask.sum(1) @ columns) / total), 1)
    return mask.mean((1, 2)), centre


def find_touches(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each of two masks (2, F, H, W) touches the border, (2, F), and whether they touch each other, (F,)."""
    edge = torch.ones(masks.shape[2:], dtype=torch.bool)
    edge[2:-2, 2:-2] = False
    grown = F.max_pool2d(masks, 7, stride=1, padding=3)
    return (masks * edge).sum((2, 3)) > 0, (grown[0] * grown[1]).sum((1, 2)) > 0


@cache
def draw_templates() -> Tensor:
    """Each form at each angle with an area of 1, (forms, angles, GRID, GRID)."""
    middle = ((torch.arange(GRID) + 0.5) / GRID - 0.5) * 2 * REACH
    angle = torch.arange(ANGLES)[:, None, None] * (2 * math.pi / ANGLES)
    along, across = shapes.turn(middle[:, None], middle, angle.cos(), angle.sin())
    fine = torch.linspace(-2, 2, 400)
    square = fine.expand(1, 400, 400), fine[:, None].expand(1, 400, 400)
    templates = []
    for form in range(len(scene_prompt.FORMS)):
        area = 16 * (_inside(*square, form, 1.0) > 0).float().mean().item()
        templates.append((_inside(along, across, form, area**-0.5) > 0).float())
    return torch.stack(templates)


def _inside(along: Tensor, across: Tensor, form: int, radius: float) -> Tensor:
    """How far inside a form's edge points (F, H, W) are."""
    points = along[None, None], across[None, None]
    return scenes.measure_distance(*points, torch.tensor([[form]]), torch.tensor([[radius]]))[0, 0]


def read_form(mask: Tensor, area: Tensor, centre: Tensor) -> str:
    """The form whose best rotation covers a mask (F, H, W) best over its frames."""
    middle = ((torch.arange(GRID) + 0.5) / GRID - 0.5) * 2 * REACH
    side = area.sqrt()[:, None]
    rows, columns = (centre[:, axis : axis + 1] + side * middle for axis in (0, 1))
    size = (len(mask), GRID, GRID)
    at = torch.stack((columns[:, None, :].expand(size), rows[:, :, None].expand(size)), -1)
    seen = F.grid_sample(mask[:, None], 2 * at - 1, align_corners=False)[:, 0, None, None]
    templates = draw_templates()
    shared = torch.minimum(seen, templates).sum((-1, -2)) / torch.maximum(seen, templates).sum((-1, -2))
    return scene_prompt.FORMS[shared.amax(2).mean(0).argmax()]


def read_direction(centre: Tensor, times: Tensor) -> str:
    """The direction nearest to the straight line fitted to centres (F, 2) at times (F,)."""
    times = times - times.mean()
    row, column = (times @ centre).tolist()
    return scene_prompt.DIRECTIONS[round(math.atan2(row, column) / (math.pi / 4)) % 8]


def find_full(areas: Tensor, border: Tensor) -> Tensor:
    """The area (2,) that each shape has when nothing hides it: nearly its largest (2, F) away from the border."""
    inside = [area[~at] for area, at in zip(areas, border)]
    return torch.stack([area.quantile(0.9) if len(area) else torch.tensor(math.inf) for area in inside])


def read_front(areas: Tensor, full: Tensor, border: Tensor, touching: Tensor) -> int | None:
    """Which of two shapes loses less of its area (2, F) in some frame where they touch; None where none does.

    Frames in which one touches the border, (2, F), are left out.
    """
    at = touching & ~border.any(0)
    if not at.any():
        return None
    kept = areas[:, at].amin(1) / full
    return None if kept.min() > 1 - LOST else int(kept.argmax())


def pick(frames: Tensor) -> Tensor:
    """At most WHOLE of the frames that are True, evenly."""
    numbers = frames.nonzero()[:, 0]
    return numbers[torch.linspace(0, len(numbers) - 1, min(WHOLE, len(numbers))).round().long()]


def read_scene(clip: Tensor, colours: tuple[str, str] | None = None) -> Reading:
    """Read a clip (F, H, W, 3) in 0 to 1; the shapes are those of `colours`, or of the two most frequent ones."""
    pixels = sort_pixels(clip)
    found = find_colours(pixels)
    named = colours or found
    masks = torch.stack([(pixels == scene_prompt.COLOURS.index(name)).float() for name in named])
    (areas, centres), (border, touching) = zip(*(find_centres(m) for m in masks)), find_touches(masks)
    areas = torch.stack(areas)
    full = find_full(areas, border)
    whole = ~border & (areas > COUNTED) & (areas > KEPT * full[:, None])
    forms, directions, jumps = [], [], []
    for mask, area, centre, frames in zip(masks, areas, centres, whole):
        chosen = pick(frames)
        forms.append(read_form(mask[chosen], area[chosen], centre[chosen]) if len(chosen) else None)
        directions.append(read_direction(centre[frames], frames.nonzero()[:, 0].float()) if len(chosen) > 2 else None)
        steady = frames[2:] & frames[1:-1] & frames[:-2]
        jumps.append(centre.diff(n=2, dim=0).norm(dim=1)[steady])
    jumps = torch.cat(jumps)
    front = read_front(areas, full, border, touching)
    return Reading(found, tuple(forms), tuple(directions), front, jumps.mean().item() if len(jumps) else math.nan)
