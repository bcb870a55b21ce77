"""Draws art/icon.png and art/banner.png for the registry: one token of a video and what it sees over time.

python scripts/draw_art.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "art"
ICON, BANNER = 400, (1260, 540)  # the registry: square and at most 400 wide; 21 : 9
SMOOTH = 4
GROUND, FRAME, EDGE, QUERY = (17, 22, 33), (34, 44, 66), (96, 116, 158), (255, 255, 255)
COLD, WARM = (58, 84, 140), (255, 176, 59)
CELLS = 4
# How much the token in the last frame sees of each cell: frame -> {(column, row): 0 to 1}. A shape that moves right.
SEEN = (
    {(0, 2): 0.8, (0, 1): 0.35, (1, 2): 0.3},
    {(1, 2): 0.9, (1, 1): 0.4, (0, 2): 0.3, (2, 2): 0.25},
    {(2, 1): 1.0, (2, 2): 0.55, (1, 1): 0.35, (3, 1): 0.3},
)
QUERY_CELL = (2, 1)


def mix(weight: float) -> tuple[int, int, int]:
    return tuple(round(a + (b - a) * weight) for a, b in zip(COLD, WARM, strict=True))


def draw_frames(draw: ImageDraw.ImageDraw, left: float, top: float, size: float) -> None:
    """Three frames behind each other inside a square of `size` pixels."""
    side, step = size * 0.6, size * 0.2
    cell = side / CELLS
    for number, seen in enumerate(SEEN):
        x, y = left + number * step, top + size - side - number * step
        box = (x, y, x + side, y + side)
        draw.rounded_rectangle(box, cell * 0.35, fill=FRAME, outline=EDGE, width=round(size * 0.008))
        for (column, row), weight in seen.items():
            gap = cell * 0.08
            place = [x + column * cell + gap, y + row * cell + gap, x + (column + 1) * cell - gap]
            draw.rounded_rectangle((*place, y + (row + 1) * cell - gap), cell * 0.2, fill=mix(weight))
    x, y = (left + 2 * step + QUERY_CELL[0] * cell, top + size - side - 2 * step + QUERY_CELL[1] * cell)
    draw.rounded_rectangle((x, y, x + cell, y + cell), cell * 0.25, outline=QUERY, width=round(size * 0.014))


def icon() -> Image.Image:
    size = ICON * SMOOTH
    image = Image.new("RGB", (size, size), GROUND)
    draw_frames(ImageDraw.Draw(image), size * 0.1, size * 0.1, size * 0.8)
    return image.resize((ICON, ICON), Image.LANCZOS)


def banner() -> Image.Image:
    width, height = (side * SMOOTH for side in BANNER)
    image = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(image)
    draw_frames(draw, height * 0.14, height * 0.12, height * 0.76)
    x = height * 1.02
    lines = (("Video Attention", 0.125, QUERY, 0.27), ("swap it, shape it,", 0.07, WARM, 0.5),
             ("see it, prove it", 0.07, WARM, 0.6), ("for ComfyUI", 0.05, EDGE, 0.76))  # fmt: skip
    for text, size, colour, y in lines:
        draw.text((x, height * y), text, fill=colour, font=ImageFont.load_default(height * size))
    return image.resize(BANNER, Image.LANCZOS)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, made in (("icon", icon()), ("banner", banner())):
        made.quantize(64).save(FOLDER / f"{name}.png", optimize=True)
