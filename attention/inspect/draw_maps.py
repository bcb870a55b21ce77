"""Pictures of attention maps: heat over the clip, shares by block, what each token of the prompt receives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..core.grid import coordinates
from ..routing.rules import format_blocks
from .draw_report import COLOURS, HOST_COLOUR, INK, PALE, PAPER
from .map_views import Maps, Spread, percent
from .maps import ELSEWHERE, SAME_FRAME, SAME_PLACE, Query

# Dark to light, so that heat also reads in grey; near matplotlib's "inferno" (CC0).
RAMP = ((6, 4, 24), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
# Share of the tokens that are brighter than the scale: one token that looks at itself would leave all others dark.
OVER = 0.005
LEAST_SIDE, FOOT = 512, 44
WIDTH, MARGIN, LEFT, WELL = 960, 28, 128, (232, 233, 236)
PARTS = {SAME_FRAME: COLOURS[0], SAME_PLACE: COLOURS[4], ELSEWHERE: HOST_COLOUR, "text": COLOURS[1]}
OTHERS = (COLOURS[3], COLOURS[5], COLOURS[6], COLOURS[8], COLOURS[11])


def top_of(heat: torch.Tensor) -> float:
    """The weight that is drawn brightest, above 0."""
    ranked = heat.flatten().sort(descending=True).values
    return max(ranked[int(OVER * len(ranked))].item(), 1e-12)


def paint(levels: torch.Tensor) -> torch.Tensor:
    """Colours (..., 3), 0 to 1, of levels (...), 0 to 1, along RAMP."""
    ramp = torch.tensor(RAMP, dtype=torch.float32) / 255
    at = levels.clamp(0, 1) * (len(RAMP) - 1)
    low = at.floor().long().clamp(max=len(RAMP) - 2)
    return torch.lerp(ramp[low], ramp[low + 1], (at - low)[..., None])


def draw_heat(maps: Maps, query: Query, images: torch.Tensor | None = None) -> torch.Tensor:
    """One picture for each frame of the grid, (T, H, W, 3) in 0 to 1, with the query marked and a scale below.

    images: (F, H, W, C) in 0 to 1, frames of the same clip; each map lies over the one in the middle of its time.
    """
    frames, size, top = maps.grid[0], _size(maps.grid, images), top_of(maps.heat)
    levels = (maps.heat / top).clamp(0, 1).sqrt()
    pictures = []
    for frame in range(frames):
        # Cubic: linear steps draw a star around every token.
        level = F.interpolate(levels[None, None, frame], size, mode="bicubic")[0, 0].clamp(0, 1)
        pixels = paint(level) if images is None else _over(_middle(images, frame, frames, size), level)
        picture = Image.new("RGB", (size[1], size[0] + FOOT), INK)
        picture.paste(_to_image(pixels), (0, 0))
        _mark(picture, maps, query, frame, size)
        _scale(picture, f"frame {frame} of 0-{frames - 1}", top, images is not None)
        pictures.append(torch.from_numpy(np.array(picture)))
    return torch.stack(pictures).float() / 255


def _to_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().numpy())


def _size(grid, images) -> tuple[int, int]:
    """Height and width of a map: LEAST_SIDE at least along the longer side, a whole multiple of the picture."""
    height, width = grid[1:] if images is None else images.shape[1:3]
    times = max(1, math.ceil(LEAST_SIDE / max(height, width)))
    return height * times, width * times


def _middle(images: torch.Tensor, frame: int, frames: int, size: tuple[int, int]) -> torch.Tensor:
    """(H, W, 3): the picture in the middle of a grid frame's equal share of the clip."""
    index = min(len(images) - 1, int((frame + 0.5) * len(images) / frames))
    picture = images[index].float().cpu().clamp(0, 1).movedim(-1, 0)[None]
    picture = picture[:, :3] if picture.shape[1] >= 3 else picture[:, :1].expand(-1, 3, -1, -1)
    return F.interpolate(picture, size, mode="nearest")[0].movedim(0, -1)


def _over(picture: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The picture nearly in grey, with heat over it, the stronger the more solid."""
    grey = 0.8 * picture.mean(-1, keepdim=True) + 0.2 * picture
    return torch.lerp(0.85 * grey, paint(level), 0.95 * ((level - 0.2) / 0.5).clamp(0, 1)[..., None])


def _mark(picture: Image.Image, maps: Maps, query: Query, frame: int, size: tuple[int, int]) -> None:
    """The query: a ring around its token, a thin one at the same place of other frames; of a mask the outline."""
    t, y, x = coordinates(maps.grid, maps.queries)
    if query.mask is not None:
        marked = np.zeros(maps.grid[1:], bool)
        marked[y[t == frame], x[t == frame]] = True
        return _outline(ImageDraw.Draw(picture), marked, size)
    cell = size[0] / maps.grid[1], size[1] / maps.grid[2]
    down, across, here = (y.item() + 0.5) * cell[0], (x.item() + 0.5) * cell[1], frame == t.item()
    pen, radius = ImageDraw.Draw(picture), max(10, min(cell) / 3)
    for grown, colour, thick in ((1.5, (0, 0, 0), 6 if here else 4), (0, (255, 255, 255), 3 if here else 1)):
        r = radius + grown
        pen.ellipse((across - r, down - r, across + r, down + r), outline=colour, width=thick)


def _outline(pen: ImageDraw.ImageDraw, marked: np.ndarray, size: tuple[int, int]) -> None:
    """Lines between marked cells and others."""
    (rows, columns), padded = marked.shape, np.pad(marked, 1)
    for y, x in np.argwhere(marked):
        top, bottom = y * size[0] / rows, (y + 1) * size[0] / rows - 1
        left, right = x * size[1] / columns, (x + 1) * size[1] / columns - 1
        around = padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]
        edges = (top, top), (bottom, bottom), (left, left), (right, right)
        for side, (other, (one, two)) in enumerate(zip(around, edges)):
            if not other:
                pen.line((left, one, right, two) if side < 2 else (one, top, two, bottom), (255, 255, 255), 2)


def _scale(picture: Image.Image, title: str, top: float, over: bool) -> None:
    """The colours' meaning in the foot: 0 to `top` of the attention on one token."""
    width, y = picture.width, picture.height - FOOT
    pen, words = ImageDraw.Draw(picture), f"{percent(top)} or more on a token"
    pen.text((12, y + 22), title, fill=PAPER, font=_font(15), anchor="lm")
    pen.text((width - 12, y + 22), words, fill=PAPER, font=_font(15), anchor="rm")
    right = width - 22 - round(pen.textlength(words, _font(15)))
    left = 40 + round(pen.textlength(title, _font(15)))
    levels = torch.linspace(0, 1, max(2, right - left - 14)).expand(14, -1)
    bar = _over(torch.full((*levels.shape, 3), 0.5), levels) if over else paint(levels)
    pen.text((left, y + 22), "0", fill=PAPER, font=_font(15), anchor="rm")
    picture.paste(_to_image(bar), (left + 8, y + 15))


def _font(size: int):
    return ImageFont.load_default(size)


def _colours(parts: Sequence[str]) -> dict[str, tuple]:
    others = [part for part in parts if part not in PARTS]
    return PARTS | {part: OTHERS[index % len(OTHERS)] for index, part in enumerate(others)}


def draw_shares(maps: Maps) -> Image.Image:
    """RGB picture: a bar for each block, cut into the shares of its self-attention; the mean and an even one below."""
    parts = list(dict.fromkeys(part for shares in (*maps.shares.values(), maps.even) for part in shares))
    rows = [(f"block {block}", shares, block in maps.chosen) for block, shares in maps.shares.items()]
    ends = [(f"mean of {format_blocks(maps.chosen)}", maps.mean, True), ("if even", maps.even, True)]
    step = 28 if len(rows) <= 24 else 18
    picture = Image.new("RGB", (WIDTH, 132 + step * len(rows) + 28 * 2 + 56), PAPER)
    pen, colours = ImageDraw.Draw(picture), _colours(parts)
    pen.text((MARGIN, 22), "Where the query looks: self-attention by block", INK, font=_font(24))
    pen.text((MARGIN, 58), "dark names: blocks in the heat map", PALE, font=_font(15))
    _legend(pen, parts, colours)
    y = 132
    for row in rows:
        _bar(pen, row, y, step - 6, colours)
        y += step
    y += 14
    for row in ends:
        _bar(pen, row, y, 22, colours)
        y += 28
    for tenth in range(0, 101, 25):
        at = LEFT + (WIDTH - MARGIN - LEFT) * tenth / 100
        pen.text((at, y + 6), f"{tenth} %", PALE, font=_font(13), anchor="ma" if tenth < 100 else "ra")
    return picture


def _legend(pen: ImageDraw.ImageDraw, parts: Sequence[str], colours: dict) -> None:
    x = LEFT
    for part in parts:
        pen.rounded_rectangle((x, 94, x + 16, 110), 3, fill=colours[part])
        pen.text((x + 24, 102), part, INK, font=_font(15), anchor="lm")
        x += 48 + pen.textlength(part, _font(15))


def _bar(pen: ImageDraw.ImageDraw, row: tuple, y: float, height: int, colours: dict) -> None:
    name, shares, strong = row
    pen.text((LEFT - 12, y + height / 2), name, INK if strong else PALE, font=_font(14), anchor="rm")
    pen.rectangle((LEFT, y, WIDTH - MARGIN, y + height), fill=WELL)
    x = float(LEFT)
    for part, share in shares.items():
        wide = share * (WIDTH - MARGIN - LEFT)
        if wide >= 0.5:
            pen.rectangle((round(x), y, max(round(x), round(x + wide) - 1), y + height), fill=colours[part])
        if wide > 48 and height > 14:
            dark = sum(colours[part]) < 400
            words = f"{100 * share:.0f} %"
            pen.text((x + wide / 2, y + height / 2), words, PAPER if dark else INK, font=_font(13), anchor="mm")
        x += wide


def draw_spreads(spreads: Sequence[Spread]) -> Image.Image:
    """RGB picture: for each kind of other tokens what every one receives, and below it each block by itself."""
    heights = [_height(spread) for spread in spreads]
    picture = Image.new("RGB", (WIDTH, max(160, 72 + sum(heights))), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((MARGIN, 22), "What other tokens receive from the query", INK, font=_font(24))
    if not spreads:
        pen.text((MARGIN, 80), "The query saw no tokens but the video's.", PALE, font=_font(15))
    y = 72
    for spread, height in zip(spreads, heights):
        _tokens(picture, pen, spread, y)
        y += height
    return picture


def _height(spread: Spread) -> int:
    return 44 + 112 + _row_height(spread) * len(spread.blocks) + 60


def _row_height(spread: Spread) -> int:
    return max(4, min(16, 320 // len(spread.blocks)))


def _tokens(picture: Image.Image, pen: ImageDraw.ImageDraw, spread: Spread, y: int) -> None:
    mean, count, room = spread.mean, len(spread.mean), WIDTH - MARGIN - LEFT
    whole = "each row sums to 100 %" if spread.role != "self" else f"{percent(mean.sum().item())} together"
    title = f"{spread.kind}, {count} tokens, read by {spread.role}-attention; {whole}"
    pen.text((MARGIN, y + 8), title, INK, font=_font(16))
    y += 44
    top, columns = max(mean.max().item(), 1e-12), _columns(mean, room)
    pen.rectangle((LEFT, y, LEFT + room - 1, y + 96), fill=WELL)
    for x, value in enumerate(columns):
        if 4 * count <= room and x * count // room != (x + 1) * count // room:
            continue  # a gap between tokens
        pen.line((LEFT + x, y + 96 - round(96 * value / top), LEFT + x, y + 96), fill=PARTS["text"])
    pen.text((LEFT - 12, y), percent(top), PALE, font=_font(13), anchor="ra")
    pen.text((LEFT - 12, y + 96), "mean", INK, font=_font(14), anchor="rs")
    y += 108
    row = _row_height(spread)
    levels = (spread.weights / spread.weights.max().clamp(min=1e-12)).sqrt()
    rows = torch.stack([torch.tensor(_columns(level, room)) for level in levels])
    picture.paste(_to_image(paint(rows)).resize((room, row * len(rows)), Image.Resampling.NEAREST), (LEFT, y))
    every = max(1, math.ceil(15 / row))
    for index, block in enumerate(spread.blocks):
        if index % every == 0:
            at = LEFT - 12, y + row * index + row / 2
            pen.text(at, f"block {block}", INK if spread.chosen[index] else PALE, font=_font(12), anchor="rm")
    y += row * len(rows) + 6
    for index in range(0, count, max(1, math.ceil(count / 16))):
        pen.text((LEFT + (index + 0.5) * room / count, y), str(index), PALE, font=_font(12), anchor="ma")


def _columns(values: torch.Tensor, room: int) -> list[float]:
    """`values` as `room` columns; where several share a column, the largest is seen."""
    return F.adaptive_max_pool1d(values[None].float(), room)[0].tolist()
