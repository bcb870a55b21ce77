"""Draws web/docs/patterns.png: what one token sees under each pattern with a fixed mask, and the masks.

python scripts/draw_patterns.py
"""

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from attention import patterns
from attention.core.canvas import INK, NEUTRAL, PALE, PAPER, mix
from attention.inspect.draw_pattern import HERE, SEEN, UNSEEN, draw_pattern

# 81 frames of 640 x 448 pixels in Wan.
GRID = (21, 28, 40)
SHOWN = (
    patterns.Spatial(),
    patterns.Temporal(),
    patterns.TemporalWindow(5),
    patterns.SlidingTile(),
    patterns.Neighbourhood(),
    patterns.Radial(60),
    patterns.LongVideo(9),
    patterns.Union((patterns.Spatial(), patterns.Temporal())),
    patterns.Intersection((patterns.Radial(), patterns.Neighbourhood())),
)
WIDTH, COLUMNS = 560, 2
# Shades of smooth edges between two colours.
STEPS = 5


def palette() -> Image.Image:
    """The picture's own colours and what smooth edges lie between them: half the bytes of a counted palette."""
    pairs = [(ink, PAPER) for ink in (INK, PALE, SEEN, HERE)] + [(SEEN, UNSEEN)]
    shades = [mix(ink, ground, step / STEPS) for ink, ground in pairs for step in range(1, STEPS + 1)]
    carrier = Image.new("P", (1, 1))
    carrier.putpalette([part for colour in dict.fromkeys((PAPER, UNSEEN, NEUTRAL, *shades)) for part in colour])
    return carrier


def main() -> None:
    cards = [draw_pattern(pattern, GRID)[0] for pattern in SHOWN]
    cards = [card.resize((WIDTH, round(card.height * WIDTH / card.width)), Image.Resampling.LANCZOS) for card in cards]
    rows = [cards[at : at + COLUMNS] for at in range(0, len(cards), COLUMNS)]
    sheet = Image.new("RGB", (COLUMNS * WIDTH, sum(max(card.height for card in row) for row in rows)), PAPER)
    top = 0
    for row in rows:
        for column, card in enumerate(row):
            sheet.paste(card, (column * WIDTH, top))
        top += max(card.height for card in row)
    few = sheet.quantize(palette=palette(), dither=Image.Dither.NONE)
    few.save(ROOT / "web" / "docs" / "patterns.png", optimize=True)


if __name__ == "__main__":
    main()
