"""Pictures of attention maps: heat over the clip, shares by block, what each token of the prompt receives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..core.canvas import (
    BLUE,
    BROWN,
    INK,
    LEAF,
    LIGHT,
    LINE,
    MARGIN,
    NEUTRAL,
    PALE,
    PLUM,
    RED,
    TEAL,
    TEXT,
    VIOLET,
    WELL,
    WIDTH,
    YELLOW,
    Canvas,
    Colour,
    length,
    type_for,
)  # fmt: skip
from ..core.grid import coordinates
from ..routing.rules import format_blocks
from .map_summary import Maps, TokenShares, percent
from .maps import ELSEWHERE, SAME_FRAME, SAME_PLACE, Query

# Dark to light, so that heat also reads in grey; near matplotlib's "inferno" (CC0).
RAMP = ((6, 4, 24), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))
# Share of the tokens that are brighter than the scale: one token that looks at itself would leave all others dark.
OVER = 0.005
# Pixels: the longer side of a map at least; of the scale below it the least length, and of its type the least height
# and how often that the foot is high.
LEAST_SIDE, LEAST_BAR, LEAST_TYPE, ROWS = 512, 60, 14, 3
LEFT, WHITE, BLACK = 124, (255, 255, 255), (0, 0, 0)
# Of bars by block: from one to the next, and that with more than so many; heights of the charts of words.
STEP, CLOSE, MANY = 30, 18, 24
MEAN, WHOLE = 96, 360
PARTS = {SAME_FRAME: BLUE, SAME_PLACE: TEAL, ELSEWHERE: NEUTRAL, "text": YELLOW}
OTHERS = (RED, PLUM, LEAF, VIOLET, BROWN)


def top_of(heat: torch.Tensor) -> float:
    """Find the weight that is drawn brightest, above 0."""
    ranked = heat.flatten().sort(descending=True).values
    return max(ranked[int(OVER * len(ranked))].item(), 1e-12)


def paint(levels: torch.Tensor) -> torch.Tensor:
    """Paint levels (...), 0 to 1, along RAMP: colours (..., 3), 0 to 1."""
    ramp = torch.tensor(RAMP, dtype=torch.float32) / 255
    at = levels.clamp(0, 1) * (len(RAMP) - 1)
    low = at.floor().long().clamp(max=len(RAMP) - 2)
    return torch.lerp(ramp[low], ramp[low + 1], (at - low)[..., None])


def draw_heat(maps: Maps, query: Query, images: torch.Tensor | None = None) -> torch.Tensor:
    """Draw one picture for each frame of the grid, with the query marked and a scale below: (T, H, W, 3) in 0 to 1.

    query: whose view it is.
    images: (F, H, W, C) in 0 to 1, frames of the same clip; each map lies over the one in the middle of its time.
    """
    frames, size, top = maps.grid[0], _size(maps.grid, images), top_of(maps.heat)
    levels = (maps.heat / top).clamp(0, 1).sqrt()
    pictures = []
    for frame in range(frames):
        # Cubic: linear steps draw a star around every token.
        level = F.interpolate(levels[None, None, frame], size, mode="bicubic")[0, 0].clamp(0, 1)
        pixels = paint(level) if images is None else _over(_middle(images, frame, frames, size), level)
        picture = Image.new("RGB", (size[1], size[0] + foot_of(size[1])), INK)
        picture.paste(_to_image(pixels), (0, 0))
        canvas = Canvas.over(picture)
        _mark(canvas, maps, query, frame, size)
        _scale(canvas, f"frame {frame} of 0-{frames - 1}", top, images is not None)
        pictures.append(torch.from_numpy(np.array(canvas.picture())))
    return torch.stack(pictures).float() / 255


def foot_of(width: int) -> int:
    """Return the height of the foot below a map that is so many pixels wide."""
    return ROWS * max(LEAST_TYPE, type_for(width))


def _to_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().numpy())


def _size(grid, images) -> tuple[int, int]:
    """Return a map's height and width: LEAST_SIDE at least along the longer side, a whole multiple of the picture."""
    height, width = grid[1:] if images is None else images.shape[1:3]
    times = max(1, math.ceil(LEAST_SIDE / max(height, width)))
    return height * times, width * times


def _middle(images: torch.Tensor, frame: int, frames: int, size: tuple[int, int]) -> torch.Tensor:
    """Return (H, W, 3): the picture in the middle of a grid frame's equal share of the clip."""
    index = min(len(images) - 1, int((frame + 0.5) * len(images) / frames))
    picture = images[index].float().cpu().clamp(0, 1).movedim(-1, 0)[None]
    picture = picture[:, :3] if picture.shape[1] >= 3 else picture[:, :1].expand(-1, 3, -1, -1)
    return F.interpolate(picture, size, mode="nearest")[0].movedim(0, -1)


def _over(picture: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Draw the picture nearly in grey, with heat over it, the stronger the more solid."""
    grey = 0.8 * picture.mean(-1, keepdim=True) + 0.2 * picture
    return torch.lerp(0.85 * grey, paint(level), 0.95 * ((level - 0.2) / 0.5).clamp(0, 1)[..., None])


def _mark(canvas: Canvas, maps: Maps, query: Query, frame: int, size: tuple[int, int]) -> None:
    """Mark the query: a ring around its token, a thin one at the same place of other frames; of a mask the outline."""
    t, y, x = coordinates(maps.grid, maps.queries)
    if query.mask is not None:
        marked = np.zeros(maps.grid[1:], bool)
        marked[y[t == frame], x[t == frame]] = True
        return _outline(canvas, marked, size)
    cell = size[0] / maps.grid[1], size[1] / maps.grid[2]
    middle, here = ((x.item() + 0.5) * cell[1], (y.item() + 0.5) * cell[0]), frame == t.item()
    radius = max(10, min(cell) / 3)
    # White on black: one of them is seen on any ground.
    canvas.ring(middle, radius + 1.5, BLACK, 6 if here else 4)
    canvas.ring(middle, radius, WHITE, 3 if here else 1)


def _outline(canvas: Canvas, marked: np.ndarray, size: tuple[int, int]) -> None:
    """Draw lines between marked cells and others."""
    (rows, columns), padded = marked.shape, np.pad(marked, 1)
    for y, x in np.argwhere(marked):
        top, bottom = y * size[0] / rows, (y + 1) * size[0] / rows
        left, right = x * size[1] / columns, (x + 1) * size[1] / columns
        around = padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]
        edges = (left, top, right, top + 2), (left, bottom - 2, right, bottom), (left, top, left + 2, bottom)
        for other, edge in zip(around, (*edges, (right - 2, top, right, bottom))):
            if not other:
                canvas.box(edge, WHITE)


def _scale(canvas: Canvas, title: str, top: float, over: bool) -> None:
    """Draw the colours' meaning in the foot: 0 to `top` of the attention on one token."""
    (width, height), words = canvas.size, f"{percent(top)} or more on a token"
    size = max(LEAST_TYPE, type_for(width))
    gap, foot, bold = round(0.8 * size), foot_of(width), size
    left, right, y = (
        round(2.5 * gap + length(title + "0", size)),
        width - 2 * gap - round(length(words, size)),
        foot / 2,
    )
    if right - left < LEAST_BAR:
        # A narrow picture: the bar beside the title, its words in a second row.
        right, y = width - gap, 0.9 * size
        canvas.text((right, height - foot + 2.2 * size), words, LIGHT, size, "rm")
    else:
        canvas.text((width - gap, height - foot + y), words, LIGHT, size, "rm")
    y += height - foot
    levels = torch.linspace(0, 1, max(2, right - left)).expand(bold, -1)
    bar = _over(torch.full((*levels.shape, 3), 0.5), levels) if over else paint(levels)
    canvas.text((gap, y), title, LIGHT, size, "lm")
    canvas.text((left - gap / 2, y), "0", LIGHT, size, "rm")
    canvas.paste(_to_image(bar), (left, y - bold / 2))


def _colours(parts: Sequence[str]) -> dict[str, Colour]:
    others = [part for part in parts if part not in PARTS]
    return {part: PARTS[part] if part in PARTS else OTHERS[others.index(part) % len(OTHERS)] for part in parts}


def draw_shares(maps: Maps) -> Image.Image:
    """Draw a bar for each block, cut into the shares of its self-attention; the mean and an even one below. RGB."""
    parts = list(dict.fromkeys(part for shares in (*maps.shares.values(), maps.even) for part in shares))
    rows = [(f"block {block}", shares, block in maps.chosen) for block, shares in maps.shares.items()]
    chosen = f"mean of {format_blocks(maps.chosen)}"
    if length(chosen, TEXT) > WIDTH // 3:
        chosen = f"mean of {len(maps.chosen)} blocks"
    ends = [(chosen, maps.mean, True), ("if even", maps.even, True)]
    left = max(LEFT, MARGIN + 16 + round(max(length(name, TEXT) for name, *_ in ends)))
    room, step, colours, canvas = (
        WIDTH - MARGIN - left,
        STEP if len(rows) <= MANY else CLOSE,
        _colours(parts),
        Canvas(WIDTH),
    )
    y = canvas.title("Where the query looks, by block", ["self-attention; dark names: blocks in the heat map"])
    y = canvas.legend((MARGIN, y), colours, WIDTH - 2 * MARGIN) + 12
    for index, row in enumerate(rows):
        # Bars closer than type is high: a name for every other one.
        _bar(canvas, row, (left, y), step - 6, colours, index % math.ceil(TEXT / step) == 0)
        y += step
    y += 14
    for row in ends:
        _bar(canvas, row, (left, y), STEP - 6, colours)
        y += STEP
    for tenth in range(0, 101, 25 if room > 5 * length("100 %", TEXT) * 1.2 else 50):
        canvas.text((left + room * tenth / 100, y + 4), f"{tenth} %", PALE, TEXT, "ma" if tenth < 100 else "ra")
    return canvas.picture(y + LINE + 20)


def _bar(canvas: Canvas, row: tuple, corner: tuple[float, float], height: int, colours: dict, named=True) -> None:
    (name, shares, strong), (left, y) = row, corner
    right, x = WIDTH - MARGIN, float(left)
    if named:
        canvas.text((left - 12, y + height / 2), name, INK if strong else PALE, TEXT, "rm")
    canvas.box((left, y, right, y + height), WELL)
    for part, share in shares.items():
        wide, words = share * (right - left), f"{100 * share:.0f} %"
        canvas.box((x, y, x + wide, y + height), colours[part])
        if wide > length(words, TEXT) + 8 and height >= TEXT:
            dark = sum(colours[part]) < 400
            canvas.text((x + wide / 2, y + height / 2), words, LIGHT if dark else INK, TEXT, "mm")
        x += wide


def draw_token_shares(token_shares: Sequence[TokenShares]) -> Image.Image:
    """Draw for each kind of other tokens what every one receives, and below it each block by itself. RGB."""
    canvas = Canvas(WIDTH)
    nothing = () if token_shares else ("The query saw no tokens but the video's.",)
    y = canvas.title("What other tokens receive", nothing)
    for received in token_shares:
        y = _tokens(canvas, received, y)
    return canvas.picture(y + 12)


def _tokens(canvas: Canvas, received: TokenShares, y: float) -> float:
    """Draw one kind of tokens; return where it ends."""
    mean, count, room = received.mean, len(received.mean), WIDTH - MARGIN - LEFT
    whole = "each row sums to 100 %" if received.role != "self" else f"{percent(mean.sum().item())} together"
    title = f"{received.kind}, {count} tokens, read by {received.role}-attention; {whole}"
    y = canvas.lines((MARGIN, y), [title], INK) + 8
    top, columns = max(mean.max().item(), 1e-12), _columns(mean, room)
    canvas.box((LEFT, y, LEFT + room, y + MEAN), WELL)
    for x, value in enumerate(columns):
        if 4 * count <= room and x * count // room != (x + 1) * count // room:
            continue  # a gap between tokens
        canvas.box((LEFT + x, y + MEAN * (1 - value / top), LEFT + x + 1, y + MEAN), PARTS["text"])
    canvas.text((LEFT - 10, y), percent(top), PALE, TEXT, "ra")
    canvas.text((LEFT - 10, y + MEAN), "mean", INK, TEXT, "rs")
    y = _blocks(canvas, received, y + MEAN + 12)
    for index in range(0, count, max(1, math.ceil(count * length(f"{count}  ", TEXT) / room))):
        canvas.text((LEFT + (index + 0.5) * room / count, y), str(index), PALE, TEXT, "ma")
    return y + LINE + 24


def _blocks(canvas: Canvas, received: TokenShares, y: float) -> float:
    """Draw what every token receives in each block; return where it ends."""
    row, room = max(4, min(24, WHOLE // len(received.blocks))), WIDTH - MARGIN - LEFT
    levels = (received.weights / received.weights.max().clamp(min=1e-12)).sqrt()
    rows = torch.stack([torch.tensor(_columns(level, room)) for level in levels])
    canvas.paste(_to_image(paint(rows)).resize((room, row * len(rows)), Image.Resampling.NEAREST), (LEFT, y))
    every = max(1, math.ceil((TEXT + 2) / row))
    for index, block in enumerate(received.blocks):
        if index % every == 0:
            at = LEFT - 10, y + row * index + max(row, TEXT) / 2
            canvas.text(at, f"block {block}", INK if received.chosen[index] else PALE, TEXT, "rm")
    return y + max(row * len(rows), TEXT) + 8


def _columns(values: torch.Tensor, room: int) -> list[float]:
    """Fit `values` into `room` columns; where several share a column, the largest is seen."""
    return F.adaptive_max_pool1d(values[None].float(), room)[0].tolist()
