"""Draws what the page on attention shows of a model's own tensors: strips of frames, one tile a frame of tokens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from attention_runs import Lesson
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attention import patterns
from attention.core.canvas import BLUE, INK, LIGHT, PALE, PAPER, RED, TEAL, WELL, Canvas
from attention.inspect.draw_maps import paint, top_of
from attention.inspect.map_summary import percent
from attention.patterns.spec import relation_of
from benchmarks.demo_model import apart

# Of a tile and what is between two; where tiles begin; of the whole picture; of type.
TILE, GAP, LEFT, EDGE, SMALL = 72, 4, 124, 14, 17
WHITE, UNSEEN = (255, 255, 255), (226, 228, 232)
# Of a vector: where its bars begin, the width of all of them, and the height of half of it.
BARS, WIDTH, HALF = 232, 224, 26
# Of the moving clips: a side, every so many frames, and how long each stands.
SIDE, EVERY, MILLISECONDS = 136, 8, 240
WAYS = {
    "joint": ("joint", "as it was trained"),
    "spatial": ("spatial", "inside each frame"),
    "temporal": ("temporal", "one place, all frames"),
    "in turn": ("in turn", "spatial, temporal"),
    "trained": ("spatial + trained", "temporal blocks"),
}


def width_of(lesson: Lesson) -> int:
    return LEFT + len(lesson.shown) * (TILE + GAP) - GAP + EDGE


def middle(lesson: Lesson, frame: int) -> Tensor:
    """The picture (H, W, 3) in the middle of a token frame's time."""
    frames = lesson.clips["joint"].frames
    return frames[int((frame + 0.5) * len(frames) / lesson.grid[0])]


def to_tile(pixels: Tensor, side: int = TILE, smooth: bool = True) -> Image.Image:
    """(H, W, 3) in 0 to 1, as a square picture; not smooth: tokens stay squares."""
    how = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().numpy()).resize((side, side), how)


def heated(picture: Tensor, level: Tensor) -> Image.Image:
    """What stands out in a frame, in grey, with heat over it, the stronger the more solid. level: (Y, X), 0 to 1."""
    shade = 0.16 + 0.34 * apart(picture)[..., None].expand(-1, -1, 3)
    ground = np.asarray(to_tile(shade), dtype=np.float32)
    heat = np.asarray(to_tile(paint(level), smooth=False), dtype=np.float32)
    solid = np.asarray(to_tile(((level - 0.12) / 0.3)[..., None].expand(-1, -1, 3), smooth=False)) / 255
    return Image.fromarray((ground + (heat - ground) * solid).round().astype(np.uint8))


def signed(value: Tensor) -> Image.Image:
    """Scores as squares: blue below 0, red above it. value: (Y, X), -1 to 1."""
    ends = torch.tensor([BLUE, LIGHT, RED], dtype=torch.float32) / 255
    at = value.clamp(-1, 1)[..., None]
    return to_tile(
        torch.where(at < 0, torch.lerp(ends[1], ends[0], -at), torch.lerp(ends[1], ends[2], at)), smooth=False
    )


def strip(canvas: Canvas, y: float, label: Sequence[str], tiles: Sequence[Image.Image]) -> float:
    """A row of tiles with its name; returns where the next may begin."""
    top = y + TILE / 2 - 11 * (len(label) - 1)
    for number, line in enumerate(label):
        canvas.text((LEFT - 12, top + 22 * number), line, INK if number == 0 else PALE, SMALL, "rm")
    for number, tile in enumerate(tiles):
        canvas.paste(tile, (LEFT + number * (TILE + GAP), y))
    return y + TILE + GAP


def name_frames(canvas: Canvas, lesson: Lesson, y: float) -> float:
    """The frames' numbers above the tiles."""
    for number, frame in enumerate(lesson.shown):
        canvas.text((LEFT + number * (TILE + GAP) + TILE / 2, y), f"frame {frame}", PALE, SMALL, "ma")
    return y + 24


def mark(lesson: Lesson, tiles: list[Image.Image], colour=WHITE) -> list[Image.Image]:
    """The query's token with an edge around it."""
    frame, row, column = np.unravel_index(lesson.query, lesson.grid)
    number = lesson.shown.index(frame)
    cell = TILE / lesson.grid[1]
    box = [column * cell, row * cell, (column + 1) * cell, (row + 1) * cell]
    canvas = Canvas.over(tiles[number])
    outer, inner = [box[0] - 3, box[1] - 3, box[2] + 3, box[3] + 3], [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]
    for (left, top, right, bottom), ink, wide in ((outer, INK, 2), (inner, colour, 2)):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        canvas.line(corners, ink, wide)
    return [*tiles[:number], canvas.picture(), *tiles[number + 1 :]]


def heat_strip(lesson: Lesson, weights: Tensor, top: float | None = None) -> list[Image.Image]:
    """Weights (L,) as tiles over the clip, up to `top`, in the colours of Video Attention Maps."""
    heat = weights.view(lesson.grid)
    levels = (heat / (top or top_of(heat))).clamp(0, 1).sqrt()
    return [heated(middle(lesson, t), levels[t]) for t in lesson.shown]


def grid(lesson: Lesson) -> Image.Image:
    """The clip, and the same cut into tokens."""
    canvas = Canvas(width_of(lesson), ground=PAPER)
    y = name_frames(canvas, lesson, EDGE)
    plain = [to_tile(middle(lesson, t)) for t in lesson.shown]
    y = strip(canvas, y, ("the clip",), plain)
    cell = TILE // lesson.grid[1]
    # The smaller a cell, the fainter its lines: else nothing is seen between them.
    faint, cut = min(1.0, (cell / 9) ** 2), []
    for tile in plain:
        lines = Canvas.over(tile)
        for at in range(cell, TILE, cell):
            lines.box((at - 0.5, 0, at + 0.5, TILE), WHITE)
            lines.box((0, at - 0.5, TILE, at + 0.5), WHITE)
        cut.append(Image.blend(tile, lines.picture().convert(tile.mode), faint))
    y = strip(canvas, y, ("in tokens", f"{lesson.grid[1]} x {lesson.grid[2]} each"), mark(lesson, cut))
    return canvas.picture(y + EDGE - GAP)


def share_of(weight: float) -> str:
    """A weight in percent; a softmax never gives nothing, so that the least would be a long number."""
    return percent(weight) if weight >= 1e-4 else "under 0.01 %"


def vector(canvas: Canvas, y: float, name: Sequence[str], values: Tensor, words: str, colour) -> float:
    """A vector as bars up and down from its line, the largest as high as there is room, with words on both sides."""
    middle_y, top = y + HALF, values.abs().max().item()
    for number, line in enumerate(name):
        at = middle_y - 10 * (len(name) - 1) + 20 * number
        canvas.text((BARS - 12, at), line, INK if number == 0 else PALE, SMALL, "rm")
    bar = WIDTH / len(values)
    canvas.box((BARS, y, BARS + WIDTH, y + 2 * HALF), WELL)
    for number, value in enumerate(values.tolist()):
        x, end = BARS + bar * number, middle_y - HALF * value / top
        canvas.box((x + bar / 7, min(middle_y, end), x + 6 * bar / 7, max(middle_y, end)), colour)
    canvas.text((BARS + WIDTH + 14, middle_y), words, INK, SMALL, "lm")
    return y + 2 * HALF + 8


def products(lesson: Lesson) -> Image.Image:
    """One query of one head: its vector beside two keys, scores and weights on the frames, and what comes out."""
    block, head = lesson.sharpest()
    q, k, v = (x[head] for x in lesson.calls["self", block])
    scores, weights = (x[head, lesson.query] for x in (lesson.scores("self", block), lesson.weights("self", block)))
    canvas, y = Canvas(width_of(lesson), ground=PAPER), EDGE
    best = int(weights.argmax())
    y = vector(canvas, y, ("query", "of the marked token"), q[lesson.query], f"block {block}, head {head}", TEAL)
    for name, token in (("fits best", best), ("fits least", int(weights.argmin()))):
        where = "frame {}, row {}, column {}".format(*np.unravel_index(token, lesson.grid))
        told = f"score {scores[token]:.1f}, weight {share_of(weights[token].item())}"
        y = vector(canvas, y, (f"the key that {name}", where), k[token], told, BLUE)
    y = name_frames(canvas, lesson, y + 6)
    most = scores.abs().max()
    parts = (scores / most).view(lesson.grid)
    squares = [signed(parts[t]) for t in lesson.shown]
    y = strip(canvas, y, ("scores", f"{scores.min():.0f} to {scores.max():.0f}"), mark(lesson, squares))
    y = strip(canvas, y, ("weights", "sum 100 %"), mark(lesson, heat_strip(lesson, weights))) + 6
    y = vector(canvas, y, ("value", "where the key fits best"), v[best], f"times {share_of(weights[best].item())}", RED)
    y = vector(canvas, y, ("output", "all values by weight"), weights @ v, f"the sum over {len(weights):,} tokens", RED)
    return canvas.picture(y + 4)


def heads(lesson: Lesson) -> Image.Image:
    """One query, each head of a block."""
    block, _ = lesson.sharpest()
    canvas = Canvas(width_of(lesson), ground=PAPER)
    y = name_frames(canvas, lesson, EDGE)
    for number, weights in enumerate(lesson.weights("self", block)[:, lesson.query]):
        most = f"up to {percent(weights.max().item())}"
        y = strip(canvas, y, (f"head {number}", most), mark(lesson, heat_strip(lesson, weights)))
    return canvas.picture(y + EDGE - GAP)


def word_weights(lesson: Lesson) -> tuple[int, Tensor]:
    """The block whose words differ most from place to place, and what each word gets there: (words, L)."""
    found = {block: lesson.weights("cross", block).mean(0).T for block in lesson.blocks("cross")}
    block = max(found, key=lambda number: found[number].std(1).mean().item())
    return block, found[block]


def words(lesson: Lesson) -> Image.Image:
    """What each word of the prompt receives from each token."""
    _, found = word_weights(lesson)
    canvas = Canvas(width_of(lesson), ground=PAPER)
    y = name_frames(canvas, lesson, EDGE)
    for word, weights in zip(lesson.subject.testbed.calibrated, found):
        told = f"{100 * weights.min():.0f} to {100 * weights.max():.0f} %"
        span = (weights - weights.min()) / (weights.max() - weights.min()).clamp(min=1e-6)
        levels = span.view(lesson.grid)
        y = strip(canvas, y, (f'"{word}"', told), [heated(middle(lesson, t), levels[t]) for t in lesson.shown])
    return canvas.picture(y + EDGE - GAP)


def reach(lesson: Lesson) -> Image.Image:
    """Which tokens the marked one may see, for each kind of attention."""
    canvas, table = Canvas(width_of(lesson), ground=PAPER), torch.tensor([UNSEEN, BLUE]) / 255
    y = name_frames(canvas, lesson, EDGE)
    tokens = torch.arange(torch.Size(lesson.grid).numel())
    kinds = {"joint": None, "spatial": patterns.Spatial(), "temporal": patterns.Temporal()}
    for name, pattern in kinds.items():
        relation = pattern and relation_of(pattern, lesson.grid)
        seen = (
            relation.mask_mod(0, 0, torch.tensor(lesson.query), tokens) if relation else torch.ones(len(tokens)).bool()
        )
        parts = seen.expand(len(tokens)).view(lesson.grid).long()
        squares = [to_tile(table[parts[t]], smooth=False) for t in lesson.shown]
        y = strip(canvas, y, (name, f"{int(seen.sum()):,} tokens"), mark(lesson, squares))
    return canvas.picture(y + EDGE - GAP)


def ways(lesson: Lesson) -> list[Image.Image]:
    """The clips side by side, frame by frame."""
    shown = []
    for number in range(0, len(lesson.clips["joint"].frames), EVERY):
        canvas = Canvas(EDGE + len(WAYS) * (SIDE + EDGE), SIDE + 66, PAPER)
        for column, (name, lines) in enumerate(WAYS.items()):
            x = EDGE + column * (SIDE + EDGE)
            canvas.paste(to_tile(lesson.clips[name].frames[number], SIDE), (x, 54))
            for line, (text, ink) in enumerate(zip(lines, (INK, PALE))):
                canvas.text((x + SIDE / 2, 8 + 22 * line), text, ink, 15 if line else SMALL, "ma")
        shown.append(canvas.picture())
    return shown
