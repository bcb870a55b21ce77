"""Picture of a pattern: what one token sees, frame by frame, and the mask over the whole video."""

from __future__ import annotations

from math import prod

import torch
from PIL import Image

from ..core.canvas import BLUE, INK, LINE, MARGIN, NAME, NEUTRAL, PALE, RED, WIDTH, Canvas
from ..core.grid import index_of
from ..core.tokens import Grid
from ..patterns.density import density, flop_ratio
from ..patterns.ramp import Ramp, ramped
from ..patterns.spec import parts_of, relation_of

# Shown when no latent says which grid it will be; 97 frames of 768 x 448 in LTX.
EXAMPLE = (13, 14, 24)
SEEN, UNSEEN, HERE = BLUE, (226, 228, 232), RED
MASK_SIDE, FRAMES_SHOWN, PER_ROW = 264, 12, 4
# Where what a token sees begins, beside the mask.
BESIDE = MARGIN + MASK_SIDE + 24


def draw_pattern(pattern, grid: Grid | None, others: int = 0, ramp: Ramp | None = None) -> tuple[Image.Image, str]:
    """Draw a pattern on a token grid: RGB picture and text.

    grid: frames, rows and columns of tokens; None: an example, and the text says so.
    others: tokens around the video, which see all and are seen by all.
    ramp: how the pattern's percentage changes over the steps; None: it does not.
    """
    words, canvas = describe(pattern, grid, others, ramp), Canvas(WIDTH)
    grid = grid or EXAMPLE
    y = canvas.title(f"Pattern: {pattern.name}", words)
    for part in _all_parts(pattern):
        if (relation := relation_of(part, grid)) is not None:
            y = _row(canvas, relation, part.name, grid, y)
    return canvas.picture(y + 8), "\n".join(words)


def describe(pattern, grid: Grid | None, others: int = 0, ramp: Ramp | None = None) -> list[str]:
    """Say in lines which grid it is, how dense the pattern, its FLOPs and the most that it can gain."""
    shown = grid or EXAMPLE
    size = f"{' x '.join(map(str, shown))} = {prod(shown)} tokens (time x height x width)"
    around = f", {others} other tokens" if others else ""
    lines = [f"Grid: {size}{around}" if grid else f"No latent connected; on an example of {size}"]
    if getattr(pattern, "by_heads", ()):
        numbers = ", ".join(f"{number:g}" for number in pattern.by_heads)
        lines.append(f"Groups of heads, {pattern.amount} in percent: {numbers}")
    if hasattr(pattern, "sizes_in_tokens") and (words := pattern.sizes_in_tokens(shown)):
        lines.append(f"Sizes in tokens: {words}")
    each = (pattern,) if ramp is None else ramp.patterns(pattern)
    if len(each) > 1:
        name = ramped(pattern)
        numbers = ", ".join(f"{getattr(one, name):g}" for one in each)
        unit = " percent" if hasattr(pattern, "amount") else ""
        lines.append(f"{name}, {ramp.shape}: {numbers}{unit}, each for 1/{len(each)} of the covered steps")
    if density(pattern, shown) is None:
        return [*lines, "Density: follows from the tensors of each call"]
    seen = sum(density(one, shown) for one in each) / len(each)
    flops = sum(flop_ratio(one, shown, others) for one in each) / len(each)
    gain = f"self-attention at most {1 / flops:.1f}x as fast" if flops < 1 else "dense: nothing is gained"
    return [*lines, f"Density: {seen:.1%} of the video's (query, key) pairs; {flops:.1%} of the FLOPs; {gain}"]


def _all_parts(pattern) -> list:
    """List what even and odd blocks run, each once."""
    return list(dict.fromkeys(part for _, part in (*parts_of(pattern, 0), *parts_of(pattern, 1))))


def _row(canvas: Canvas, relation, name: str, grid: Grid, y: float) -> float:
    """Draw one part of a pattern: its mask, and beside it what the token in the middle sees; return where it ends."""
    canvas.text((MARGIN, y), name, INK, NAME)
    top = canvas.lines((MARGIN, y + LINE + 4), ["its mask"]) + 2
    canvas.text((BESIDE, y + LINE + 4), "the marked token sees, by frame", PALE)
    canvas.box((MARGIN - 1, top - 1, MARGIN + MASK_SIDE + 1, top + MASK_SIDE + 1), NEUTRAL)
    canvas.paste(mask_picture(relation, grid).resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST), (MARGIN, top))
    _frames(canvas, relation, grid, (BESIDE, top))
    return top + MASK_SIDE + 20


def mask_picture(relation, grid: Grid) -> Image.Image:
    """Draw a sample of the mask: evenly spaced queries and keys, MASK_SIDE of each at most."""
    n = prod(grid)
    at = torch.linspace(0, n - 1, min(n, MASK_SIDE)).long()
    return _colour(relation.mask_mod(0, 0, at[:, None], at[None, :]).expand(len(at), len(at)))


def _frames(canvas: Canvas, relation, grid: Grid, corner: tuple[float, float]) -> None:
    """Draw small pictures of the frames around that of the token in the middle, in rows, the token marked."""
    frames, rows, columns = grid
    query = tuple(length // 2 for length in grid)
    chosen = sorted(range(frames), key=lambda t: abs(t - query[0]))[:FRAMES_SHOWN]
    room = (canvas.size[0] - corner[0] - MARGIN) // PER_ROW - 10
    scale = min(room / columns, (MASK_SIDE / 3 - LINE) / rows)
    size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
    q = torch.tensor(index_of(grid, *query))
    for number, t in enumerate(sorted(chosen)):
        keys = torch.arange(rows * columns) + t * rows * columns
        seen = relation.mask_mod(0, 0, q, keys).expand(rows * columns).view(rows, columns)
        x, y = corner[0] + number % PER_ROW * (room + 10), corner[1] + number // PER_ROW * (MASK_SIDE // 3)
        frame = _colour(seen).resize(size, Image.Resampling.NEAREST)
        if t == query[0]:
            mark = Canvas.over(frame)
            mark.dot(((query[2] + 0.5) * scale, (query[1] + 0.5) * scale), 4.5, HERE)
            frame = mark.picture()
        canvas.paste(frame, (x, y))
        canvas.text((x, y + size[1]), str(t), PALE)


def _colour(seen: torch.Tensor) -> Image.Image:
    """Turn (rows, columns) bool into a picture."""
    table = torch.tensor([UNSEEN, SEEN], dtype=torch.uint8)
    return Image.fromarray(table[seen.long()].numpy(), "RGB")
