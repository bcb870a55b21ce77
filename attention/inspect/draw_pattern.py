"""Picture of a pattern: what one token sees, frame by frame, and the mask over the whole video."""

from __future__ import annotations

from math import prod

import torch
from PIL import Image, ImageDraw

from ..core.grid import index_of
from ..core.tokens import Grid
from ..patterns import density, flop_ratio, on, parts
from .draw_report import HOST_COLOUR, INK, PALE, PAPER, _font

# Shown when no latent says which grid it will be; 97 frames of 768 x 448 in LTX.
EXAMPLE = (13, 14, 24)
SEEN, UNSEEN, HERE = (29, 105, 150), (226, 228, 232), (204, 80, 62)
MASK_SIDE, FRAMES_SHOWN = 240, 12


def draw_pattern(pattern, grid: Grid | None, others: int = 0, width: int = 960) -> tuple[Image.Image, str]:
    """RGB picture and text of a pattern on a token grid; without a grid on an example, and the text says so.

    others: tokens around the video, which see all and are seen by all.
    """
    lines = describe(pattern, grid, others)
    grid = grid or EXAMPLE
    relations = [(weight, on(part, grid), part) for weight, part in _all_parts(pattern)]
    fixed = [(weight, relation, part) for weight, relation, part in relations if relation is not None]
    rows = len(fixed)
    picture = Image.new("RGB", (width, 52 + 22 * len(lines) + rows * (MASK_SIDE + 60) + 16), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((28, 18), f"Pattern: {pattern.name}", INK, font=_font(24))
    y = 54
    for line in lines:
        canvas.text((28, y), line, PALE, font=_font(15))
        y += 22
    for _, relation, part in fixed:
        y = _row(picture, canvas, relation, part.name, grid, y + 8, width)
    return picture, "\n".join(lines)


def describe(pattern, grid: Grid | None, others: int = 0) -> list[str]:
    """Grid, density, FLOPs and what the pattern can gain at most, in lines."""
    shown = grid or EXAMPLE
    size = f"{' x '.join(map(str, shown))} = {prod(shown)} tokens (time x height x width)"
    around = f", {others} other tokens" if others else ""
    lines = [f"Grid: {size}{around}" if grid else f"No latent connected; on an example of {size}"]
    if getattr(pattern, "by_heads", ()):
        numbers = ", ".join(f"{number:g}" for number in pattern.by_heads)
        lines.append(f"Groups of heads, {pattern.amount} in percent: {numbers}")
    if hasattr(pattern, "became") and (words := pattern.became(shown)):
        lines.append(f"Sizes in tokens: {words}")
    seen = density(pattern, shown)
    if seen is None:
        return [*lines, "Density: follows from the tensors of each call"]
    flops = flop_ratio(pattern, shown, others)
    gain = f"self-attention at most {1 / flops:.1f}x as fast" if flops < 1 else "dense: nothing is gained"
    return [*lines, f"Density: {seen:.1%} of the video's (query, key) pairs; {flops:.1%} of the FLOPs; {gain}"]


def _all_parts(pattern) -> tuple:
    """What even and odd blocks run, each once."""
    return tuple(dict.fromkeys((*parts(pattern, 0), *parts(pattern, 1))))


def _row(picture, canvas, relation, name: str, grid: Grid, y: int, width: int) -> int:
    query = tuple(length // 2 for length in grid)
    canvas.text((28, y), f"{name}: its mask", INK, font=_font(14))
    canvas.text((MASK_SIDE + 64, y), "what the marked token sees", INK, font=_font(14))
    mask = mask_picture(relation, grid).resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST)
    picture.paste(mask, (28, y + 24))
    canvas.rectangle((27, y + 23, 28 + MASK_SIDE, y + 24 + MASK_SIDE), outline=HOST_COLOUR)
    _frames(picture, canvas, relation, grid, query, (MASK_SIDE + 64, y + 24), width)
    return y + MASK_SIDE + 44


def mask_picture(relation, grid: Grid) -> Image.Image:
    """A sample of the mask: evenly spaced queries and keys, MASK_SIDE of each at most."""
    n = prod(grid)
    at = torch.linspace(0, n - 1, min(n, MASK_SIDE)).long()
    return _colour(relation.mask_mod(0, 0, at[:, None], at[None, :]).expand(len(at), len(at)))


def _frames(picture, canvas, relation, grid: Grid, query, corner, width: int) -> None:
    """Small pictures of the frames around the query's own, in rows."""
    frames, rows, columns = grid
    chosen = sorted(range(frames), key=lambda t: abs(t - query[0]))[:FRAMES_SHOWN]
    per_row = 4
    room = (width - corner[0] - 28) // per_row - 10
    scale = min(room / columns, (MASK_SIDE / 3 - 20) / rows)
    size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
    q = torch.tensor(index_of(grid, *query))
    for video_span, t in enumerate(sorted(chosen)):
        keys = torch.arange(rows * columns) + t * rows * columns
        seen = relation.mask_mod(0, 0, q, keys).expand(rows * columns).view(rows, columns)
        x, y = corner[0] + video_span % per_row * (room + 10), corner[1] + video_span // per_row * (MASK_SIDE // 3)
        picture.paste(_colour(seen).resize(size, Image.Resampling.NEAREST), (x, y))
        canvas.text((x, y + size[1] + 2), f"frame {t}", PALE, font=_font(11))
        if t == query[0]:
            px, py = x + (query[2] + 0.5) * scale, y + (query[1] + 0.5) * scale
            canvas.ellipse((px - 4, py - 4, px + 4, py + 4), fill=HERE)


def _colour(seen: torch.Tensor) -> Image.Image:
    """(rows, columns) bool as a picture."""
    table = torch.tensor([UNSEEN, SEEN], dtype=torch.uint8)
    return Image.fromarray(table[seen.long()].numpy(), "RGB")
