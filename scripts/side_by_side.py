"""Frames of several clips under each other, with how far the clips are apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageSequence

COLUMNS, SIZE, MARGIN, LABEL = 6, 160, 10, 30
INK, PALE, PAPER = (34, 38, 46), (120, 126, 138), (250, 250, 248)


def read(clip: Path) -> np.ndarray:
    """Frames of an animated picture: (F, H, W, 3), 0 to 255."""
    with Image.open(clip) as animation:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(animation)])


def draw(clips: dict[str, Path], target: Path) -> None:
    """One row of frames for each clip, the first one being what the others are compared with."""
    frames = {label: read(path) for label, path in clips.items()}
    first = next(iter(frames.values()))
    times = np.linspace(0, len(first) - 1, COLUMNS).round().astype(int)
    width = MARGIN + COLUMNS * (SIZE + MARGIN)
    height = MARGIN + len(frames) * (LABEL + SIZE + MARGIN)
    sheet = Image.new("RGB", (width, height), PAPER)
    canvas = ImageDraw.Draw(sheet)
    for row, (label, clip) in enumerate(frames.items()):
        top = MARGIN + row * (LABEL + SIZE + MARGIN)
        note = f"frames {', '.join(str(t) for t in times)}" if clip is first else difference(clip, first)
        canvas.text((MARGIN, top + 4), label, INK, font=ImageFont.load_default(16))
        canvas.text((width - MARGIN, top + 6), note, PALE, font=ImageFont.load_default(13), anchor="ra")
        for column, time in enumerate(times):
            picture = Image.fromarray(clip[time]).resize((SIZE, SIZE), Image.LANCZOS)
            sheet.paste(picture, (MARGIN + column * (SIZE + MARGIN), top + LABEL))
    sheet.save(target)


def difference(clip: np.ndarray, first: np.ndarray) -> str:
    """Largest and mean difference in 8-bit grey levels, after the clip was saved."""
    if clip.shape != first.shape:
        return "another size"
    apart = np.abs(clip.astype(int) - first.astype(int))
    return f"differs by at most {apart.max()} of 255, {apart.mean():.4f} on average"
