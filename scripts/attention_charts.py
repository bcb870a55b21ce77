"""Draws what the page on attention shows without sampling: what an evaluation costs, and how sound joins."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from attention.core.canvas import BLUE, INK, NEUTRAL, PALE, PAPER, RED, RULE, WELL, YELLOW, Canvas, mix

COSTS = ROOT / "benchmarks" / "SCALING.md"
ROW = re.compile(
    r"\| (\d+) x (\d+) x (\d+) \| ([^|]+) \| ([\d,]+) \| ([\d.e+]+) \| ([\d.e+]+) \| (\d+)% "
    r"\| (?:joint|factorised): ([\d.e+]+) \|"
)
TRANSFORMER, UNET = "LTX-Video, transformer", "SVD, U-Net"
# The picture's clips: of one size, so that length alone grows.
ROWS, COLUMNS = 576, 1024
WIDTH, TYPE = 800, 17
LEFT, TOP, HIGH, WIDE, BETWEEN = 70, 92, 300, 326, 58


@dataclass(frozen=True)
class Cost:
    """A row of benchmarks/SCALING.md: operations in 10^12.

    share: of attention, percent. other: of attention the other way, joint or factorised.
    """

    frames: int
    rows: int
    columns: int
    model: str
    positions: int
    attention: float
    rest: float
    share: int
    other: float


def costs(text: str | None = None) -> list[Cost]:
    """Read the page of figures; ValueError where its table is not what it was."""
    found = []
    for frames, rows, columns, model, positions, attention, rest, share, other in ROW.findall(
        text or COSTS.read_text()
    ):
        sizes = int(frames), int(rows), int(columns), model.strip(), int(positions.replace(",", ""))
        found.append(Cost(*sizes, float(attention), float(rest), int(share), float(other)))
    if {cost.model for cost in found} != {TRANSFORMER, UNET}:
        raise ValueError(f"{COSTS.name} has no table of {TRANSFORMER} and {UNET}.")
    return found


def of_one_size(model: str) -> list[Cost]:
    """The clips of a model that differ in length alone, the shortest first."""
    same = [cost for cost in costs() if cost.model == model and (cost.rows, cost.columns) == (ROWS, COLUMNS)]
    return sorted(same, key=lambda cost: cost.frames)


def cost() -> Image.Image:
    """Attention and the rest over tokens, both axes logarithmic, the transformer beside the U-Net."""
    canvas = Canvas(WIDTH, TOP + HIGH + 82, PAPER)
    colours = {"attention": RED, "all the rest": BLUE, "attention the other way": NEUTRAL}
    canvas.legend((LEFT, 14), colours, WIDTH - LEFT)
    panels = ((TRANSFORMER, "joint; other way: factorised"), (UNET, "factorised; other way: joint"))
    for number, (model, way) in enumerate(panels):
        panel(canvas, LEFT + number * (WIDE + BETWEEN), model, way)
    told = f"operations of one evaluation, over the tokens of a clip of {COLUMNS} x {ROWS} pixels"
    canvas.text((WIDTH / 2, TOP + HIGH + 52), told, INK, TYPE, "ma")
    return canvas.picture()


def panel(canvas: Canvas, left: float, model: str, way: str) -> None:
    """One model's lines: operations from 10^11 to 10^17, tokens over one and a half decades, so that slopes compare."""
    rows = of_one_size(model)
    low = math.floor(math.log10(rows[0].positions) * 2) / 2

    def at(positions: float, operations: float) -> tuple[float, float]:
        x = left + (math.log10(positions) - low) / 1.5 * WIDE
        return x, TOP + HIGH - (math.log10(operations) + 1) / 6 * HIGH

    canvas.box((left, TOP, left + WIDE, TOP + HIGH), WELL)
    canvas.text((left, TOP - 44), model, INK, TYPE)
    canvas.text((left, TOP - 22), f"attention is {way}", PALE, 15)
    for power in range(-1, 6):
        y = at(1, 10**power)[1]
        canvas.box((left, y - 0.5, left + WIDE, y + 0.5), RULE)
        canvas.text((left - 8, y), f"10^{power + 12}", PALE, 15, "rm")
    for entry, name in ((rows[0], "25 frames"), (rows[-1], "257 frames")):
        x = at(entry.positions, 1)[0]
        canvas.box((x - 0.5, TOP, x + 0.5, TOP + HIGH), RULE)
        canvas.text((x, TOP + HIGH + 6), f"{entry.positions:,}", PALE, 15, "ma")
        canvas.text((x, TOP + HIGH + 26), name, PALE, 15, "ma")
    for field, colour in (("other", NEUTRAL), ("rest", BLUE), ("attention", RED)):
        points = [at(entry.positions, getattr(entry, field)) for entry in rows]
        canvas.line(points, colour, 3)
        for point in points:
            canvas.dot(point, 5, colour)


# Of the lanes of picture and sound: where they are, how high a box is; the steps of a block from left to right.
LANES = {"picture": 16, "sound": 148}
BOX, STEP, FIRST = (146, 72), 172, 88
STEPS = (
    (BLUE, "to itself", {"picture": "self", "sound": "audio self"}),
    (YELLOW, "to the prompt", {"picture": "cross", "sound": "audio cross"}),
    (RED, "to the other", {"picture": "video to audio", "sound": "audio to video"}),
)


def sound(shapes: dict[str, tuple]) -> Image.Image:
    """A block of LTX-2: what picture and sound attend to, one after the other. shapes: role -> those of q and k."""
    canvas = Canvas(WIDTH, LANES["sound"] + BOX[1] + 46, PAPER)
    right = FIRST + len(STEPS) * STEP + BOX[0]
    for lane, y in LANES.items():
        middle = y + BOX[1] / 2
        canvas.text((FIRST - 14, middle), lane, INK, TYPE, "rm")
        canvas.line([(FIRST - 6, middle), (right + 22, middle)], PALE, 2)
        canvas.area([(right + 30, middle), (right + 20, middle - 6), (right + 20, middle + 6)], PALE)
    for number, (colour, title, roles) in enumerate(STEPS):
        x = FIRST + number * STEP
        for lane, role in roles.items():
            (_, queries, *_), (_, keys, *_) = shapes[role]
            step_box(canvas, x, LANES[lane], colour, (title, role, f"{queries} queries, {keys} keys"))
    for y in LANES.values():
        step_box(canvas, FIRST + len(STEPS) * STEP, y, NEUTRAL, ("feed-forward", "each token", "by itself"))
    exchange(canvas, FIRST + 2 * STEP)
    told = "picture and sound look at each other's state of before, so neither waits for the other"
    canvas.text((WIDTH / 2, LANES["sound"] + BOX[1] + 14), told, PALE, 15, "ma")
    return canvas.picture()


def step_box(canvas: Canvas, x: float, y: float, colour, lines: Sequence[str]) -> None:
    """What one lane does in one step."""
    canvas.box((x, y, x + BOX[0], y + BOX[1]), mix(colour, PAPER, 0.35), 6)
    canvas.box((x, y, x + 6, y + BOX[1]), colour)
    for number, line in enumerate(lines):
        canvas.text((x + 14, y + 7 + 21 * number), line, INK, 15 if number else TYPE)


def exchange(canvas: Canvas, x: float) -> None:
    """Keys and values go from each lane, as it is before this step, to the other."""
    upper, lower = LANES["picture"] + BOX[1], LANES["sound"]
    for begin, end, sign in ((upper - BOX[1] / 2, lower, 1), (lower + BOX[1] / 2, upper, -1)):
        start, level, tip = x - (STEP - BOX[0]) / 2 - 5 * sign, (upper + lower) / 2 + 9 * sign, x + BOX[0] / 2
        canvas.dot((start, begin), 4, INK)
        canvas.line(
            [(start, begin), (start, level), (tip - 24 * sign, level), (tip - 24 * sign, end - 8 * sign)], INK, 2
        )
        head = ((0, -1), (-6, -11), (6, -11))
        canvas.area([(tip - 24 * sign + dx, end + dy * sign) for dx, dy in head], INK)
    canvas.text((x + BOX[0] + 8, (upper + lower) / 2), "keys and values", INK, 15, "lm")
