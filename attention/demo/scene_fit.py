"""Finds the shapes of a drawn scene in its pixels: where each is, how turned, how large, of which form and colour.

A clip's two most frequent colours are its shapes. Each is taken to move straight and to turn evenly: coarse angles
come from comparing pieces of the clip with each form, the rest from least squares over what is seen of it.

Shapes: F frames, H, W pixels; lengths are in frame widths, times in frames.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from . import paint, shapes
from .prompt import PALETTE

WIDTH = 96  # pixels that clips are looked at with
FRAMES = 12  # that a shape is fitted to
LEAST = 0.002  # of the frame: less is no shape
WHOLE = 0.96  # of the largest area seen: with less, something covers the shape
ROUNDS, STEP = 7, 0.02  # of least squares at each width of edges, and what slopes are measured over
ANGLES, PIECE = 48, 24  # angles compared, and samples along a side of what is compared
AREAS = (math.pi, 3.098, 2.263, 3.348)  # of the forms, in squares of their radius
AWAY = -3.0  # where a shape is that is not there
TURNS = torch.linspace(-1, 1, 65) * math.pi  # over the frames that are compared


@dataclass(frozen=True)
class Found:
    """A shape: row and column (F, 2), angle (F,), radius, number of its form, signs of its colour (3,)."""

    at: Tensor
    angle: Tensor
    radius: Tensor
    form: int
    signs: Tensor


def _sort_pixels(clip: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two most frequent colours' signs (2, 3), where each is, and how strong its colour is there, (2, F, H, W).

    Strength is 1 in a texture's light and DARK / LIGHT in its dark, and falls evenly over an edge.
    """
    palette = PALETTE.to(clip.device)
    bits = torch.tensor([4, 2, 1], device=clip.device)
    known = ((palette > 0) * bits).sum(-1)
    away = clip - 0.5
    colour = ((away > 0) * bits).sum(-1)
    # Halfway between the tones: the background's greys are next to 0.5.
    colour = torch.where(away.abs().mean(-1) < paint.DARK / 2, len(palette), colour)
    two = torch.bincount(colour.flatten(), minlength=9)[known].topk(2).indices
    strong = torch.stack([away @ palette[number] for number in two]) / (3 * paint.LIGHT)
    return palette[two], (colour == known[two, None, None, None]).float(), strong


def _shrink(layers: Tensor) -> Tensor:
    """Layers (2, F, H, W) at WIDTH columns or fewer."""
    share = min(1.0, WIDTH / layers.shape[-1])
    size = [max(1, round(side * share)) for side in layers.shape[-2:]]
    return F.interpolate(layers, size, mode="area")


def _list_middles(layer: Tensor) -> tuple[Tensor, Tensor]:
    """Where the middles of the rows and columns of a layer (..., H, W) are."""
    height, width = layer.shape[-2:]
    return tuple((torch.arange(size, device=layer.device) + 0.5) / width for size in (height, width))


def _measure(mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Area (F,), centre (F, 2), and whether all of the shape is seen (F,), of masks (F, H, W)."""
    width, (rows, columns) = mask.shape[-1], _list_middles(mask)
    area = mask.sum((1, 2)) / width**2
    total = mask.sum((1, 2)).clamp(min=1e-6)
    centre = torch.stack(((mask.sum(2) @ rows) / total, (mask.sum(1) @ columns) / total), 1)
    border = mask[:, [0, -1]].amax((1, 2)) + mask[:, :, [0, -1]].amax((1, 2))
    inside = (area > LEAST) & (border < 0.05)
    # Of a shape that another covers less is seen than in its best frames.
    most = torch.where(inside, area, 0).amax()
    return area, centre, inside & (area > WHOLE * most)


def _pick(frames: Tensor, count: int) -> Tensor:
    """At most `count` of the frames (F,) that are True, evenly."""
    numbers = frames.nonzero()[:, 0]
    return numbers[torch.linspace(0, len(numbers) - 1, min(count, len(numbers))).round().long()]


def _line(times: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The straight line through values (N, K) at times (N,), as its value at time 0 and its slope, (K,) each."""
    middle = times.mean()
    away = times - middle
    slope = away @ values / away.square().sum().clamp(min=1e-6)
    return values.mean(0) - middle * slope, slope


def _draw(along: Tensor, across: Tensor, radius: Tensor, form: int, pixel: float) -> Tensor:
    """How strong a shape's colour is at points, its edge `pixel` wide."""
    cover = (0.5 + shapes.measure_distances(along, across, radius)[..., form] / pixel).clamp(0, 1)
    tone = (0.5 + paint.TEXTURE_SLOPE * shapes.draw_textures(along, across, radius)[..., form]).clamp(0, 1)
    return cover * torch.lerp(torch.full_like(tone, paint.DARK / paint.LIGHT), torch.ones_like(tone), tone)


def _compare(layer: Tensor, centre: Tensor, radius: Tensor, form: int) -> Tensor:
    """How far pieces of a layer (N, H, W) around centres (N, 2) are from the form at each angle, (ANGLES, N)."""
    middle = ((torch.arange(PIECE, device=layer.device) + 0.5) / PIECE * 2 - 1) * 1.3 * radius
    rows, columns = centre[:, :1] + middle, centre[:, 1:] + middle
    size, (height, width) = (len(layer), PIECE, PIECE), layer.shape[1:]
    places = (columns[:, None].expand(size), rows[:, :, None].expand(size) * (width / height))
    seen = F.grid_sample(layer[:, None], 2 * torch.stack(places, -1) - 1, align_corners=False)[:, 0]
    angle = torch.arange(ANGLES, device=layer.device)[:, None, None] * (2 * math.pi / ANGLES)
    along, across = shapes.turn(middle[:, None], middle, angle.cos(), angle.sin())
    return (_draw(along, across, radius, form, 1 / width)[:, None] - seen).square().mean((-1, -2))


def _guess(layer: Tensor, centre: Tensor, area: Tensor, times: Tensor) -> tuple[int, float, float, Tensor]:
    """The form that fits best, its angle at time 0 and its turn a frame, and its radius."""
    span, best = max(1.0, (times[-1] - times[0]).item()), None
    turned = TURNS[:, None].to(layer) * (times - times[0]) / span
    for form, unit in enumerate(AREAS):
        radius = (area.amax() / unit).sqrt()
        error = _compare(layer, centre, radius, form)
        begin = torch.arange(ANGLES, device=layer.device)[:, None, None]
        number = (begin + (turned * ANGLES / (2 * math.pi)).round().long()) % ANGLES
        # Of turns that fit alike the smallest.
        total = error.gather(0, number.flatten(0, 1)).reshape(number.shape).mean(-1) + 1e-3 * TURNS.to(layer).abs()
        least = total.flatten().argmin()
        if best is None or total.min() < best[0]:
            turn = TURNS[least % len(TURNS)].item() / span
            angle = (least // len(TURNS)).item() * 2 * math.pi / ANGLES - turn * times[0].item()
            best = (total.min(), (form, angle, turn, radius))
    return best[1]


def _least_squares(miss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Where `miss` (K,) -> (M,) is smallest, from `at` (K,); Levenberg and Marquardt with differences for slopes.

    Levenberg, "A Method for the Solution of Certain Non-Linear Problems in Least Squares", 1944; Marquardt, 1963.
    """
    steps, damping = STEP * torch.eye(len(at), dtype=at.dtype, device=at.device), 0.01
    away = miss(at)
    for _ in range(ROUNDS):
        slopes = torch.stack([miss(at + step) - away for step in steps], 1) / STEP
        normal, downhill = slopes.T @ slopes, slopes.T @ away
        tried = at - torch.linalg.solve(normal + damping * torch.diag(normal.diagonal()), downhill)
        further = miss(tried)
        if further.square().sum() < away.square().sum():
            at, away, damping = tried, further, damping / 4
        else:
            damping *= 10
    return at


def _refine(layer: Tensor, other: Tensor, times: Tensor, form: int, start: Tensor) -> Tensor:
    """Least squares over layers (N, H, W); start and result: row, column, their speeds, angle, turn, log of radius."""
    width, (rows, columns) = layer.shape[-1], _list_middles(layer)
    # Where the other shape is this one may be behind it.
    weight = (F.max_pool2d(other[:, None], 5, stride=1, padding=2)[:, 0] == 0).float()
    times = times - times.mean()
    sizes = torch.tensor([0.02, 0.02, 0.02, 0.02, 0.1, 0.1, 0.05], device=layer.device)
    span = times.abs().amax().clamp(min=1.0)
    sizes[2:4], sizes[5] = sizes[2:4] / span, sizes[5] / span

    def miss(pixels: float, moved: Tensor) -> Tensor:
        at_row, at_column, down, right, angle, turn, size = (start + moved * sizes).unbind()
        angle = (angle + turn * times)[:, None, None]
        dy = rows[:, None] - (at_row + down * times)[:, None, None]
        dx = columns - (at_column + right * times)[:, None, None]
        drawn = _draw(*shapes.turn(dy, dx, angle.cos(), angle.sin()), size.exp(), form, pixels / width)
        # Near the start where little is seen.
        return torch.cat(((weight * (drawn - layer)).flatten(), 0.3 * moved))

    moved = torch.zeros_like(start)
    # Wide edges first: they are felt from farther away.
    for pixels in (8.0, 3.0, 1.5):
        moved = _least_squares(partial(miss, pixels), moved)
    return start + moved * sizes


def find_shape(mask: Tensor, other: Tensor, layer: Tensor, signs: Tensor) -> Found:
    """Find a shape by its mask, the other's and its layer (F, H, W); far outside of the frame where there is none."""
    frames = torch.arange(len(layer), device=layer.device).float()
    area, centre, whole = _measure(mask)
    seen = area > LEAST
    if not seen.any():
        away = layer.new_full((len(layer), 2), AWAY)
        return Found(away, 0 * frames, layer.new_tensor(0.1), 0, signs)
    known = _pick(whole if whole.any() else seen, FRAMES)
    form, angle, turn, radius = _guess(layer[known], centre[known], area[known], frames[known])
    begin, speed = _line(frames[known], centre[known])
    some = _pick(seen, FRAMES)
    middle = frames[some].mean()
    turning = layer.new_tensor([angle + turn * middle, turn])
    start = torch.cat((begin + middle * speed, speed, turning, radius.log()[None]))
    found = _refine(layer[some], other[some], frames[some], form, start)
    away = frames - middle
    return Found(found[:2] + away[:, None] * found[2:4], found[4] + away * found[5], found[6].exp(), form, signs)


def _is_first_in_front(masks: Tensor, found: list[Found]) -> bool:
    """Which of two masks (2, F, H, W) has what both shapes cover."""
    width, (rows, columns) = masks.shape[-1], _list_middles(masks)
    both = 1.0
    for one in found:
        dy, dx = rows[:, None] - one.at[:, 0, None, None], columns - one.at[:, 1, None, None]
        angle = one.angle[:, None, None]
        inside = shapes.measure_distances(*shapes.turn(dy, dx, angle.cos(), angle.sin()), one.radius)[..., one.form]
        both = both * (inside > 1 / width)
    first, second = (both * masks).sum((1, 2, 3)).tolist()
    return first >= second


def _count_copies(clip: Tensor) -> int:
    """The frames in front of a clip's first one that are copies of it; none where nothing ever changes."""
    same = (clip == clip[:1]).flatten(1).all(1)
    return 0 if same.all() else int(same.long().cumprod(0).sum()) - 1


def _go_back(found: Found, frames: int) -> Found:
    """The same shape from so many frames earlier on, along its line."""
    back = torch.arange(-frames, 0, device=found.at.device)
    at = found.at[0] + back[:, None] * (found.at[1] - found.at[0])
    angle = found.angle[0] + back * (found.angle[1] - found.angle[0])
    return replace(found, at=torch.cat((at, found.at)), angle=torch.cat((angle, found.angle)))


def find_shapes(clip: Tensor) -> tuple[list[Found], bool]:
    """The two shapes of a clip (F, H, W, 3) in 0 to 1, the larger first, and whether that one is in front.

    Copies in front of the first frame are how clips are filled up to whole latent frames: they say nothing of a motion,
    and what moves is taken to have moved there too.
    """
    copies = _count_copies(clip)
    signs, masks, layers = _sort_pixels(clip[copies:])
    masks, layers = _shrink(masks), _shrink(layers)
    found = [find_shape(masks[n], masks[1 - n], layers[n], signs[n]) for n in (0, 1)]
    front = _is_first_in_front(masks, found)
    return [_go_back(one, copies) for one in found] if copies else found, front
