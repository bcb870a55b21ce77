"""Makes the pictures and figures of web/docs/attention-in-video.md, the page that teaches what this pack acts on.

    python scripts/attention_page.py            (in .venv)

The demo model runs in ComfyUI's own classes: five ways to attend on one prompt and seed, each sampled, decoded and
measured by this pack's nodes. Some minutes on two CPU cores. For another model: DEMO in scripts/attention_runs.py.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import attention_charts
import attention_pictures
import attention_runs
import tables
import torch
import tour
from attention_pictures import WAYS
from attention_runs import FIGURES, Lesson
from PIL import Image

from attention.families import ltxv
from attention.inspect.map_summary import percent
from benchmarks import host_paths

PAGE = Path(__file__).resolve().parents[1] / "web" / "docs" / "attention-in-video.md"
# Few: what is drawn is flat, and the archive is small. Those with heat have more.
COLOURS, QUALITY = {"products": 64, "heads": 48, "words": 48}, 30
FEW = 32
PICTURES: dict[str, Callable[[Lesson], Image.Image]] = {
    "grid": attention_pictures.grid,
    "products": attention_pictures.products,
    "heads": attention_pictures.heads,
    "words": attention_pictures.words,
    "reach": attention_pictures.reach,
    "cost": lambda lesson: attention_charts.cost(),
    "sound": lambda lesson: attention_charts.sound(lesson.sound),
}
HOW = {
    "joint": "every token sees all tokens",
    "spatial": "the own frame alone",
    "temporal": "the own place in all frames",
    "in turn": "spatial in even blocks, temporal in odd ones",
    "trained": "the own frame, and temporal blocks trained for it behind each block",
}


def draw(lesson: Lesson, folder: Path) -> None:
    """Every picture of the page."""
    for name, make in PICTURES.items():
        few = make(lesson).quantize(COLOURS.get(name, FEW), Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(folder / f"{PAGE.stem}-{name}.png", optimize=True)
    first, *others = attention_pictures.ways(lesson)
    how = {"save_all": True, "duration": attention_pictures.MILLISECONDS, "loop": 0, "quality": QUALITY, "method": 6}
    first.save(folder / f"{PAGE.stem}-ways.webp", append_images=others, **how)


def figures(lesson: Lesson) -> str:
    """What Temporal Metrics measured of each way."""
    lines = ["| attention | who sees whom | flicker | identity drift | motion | acceleration over motion |"]
    lines.append("|" + " --- |" * (2 + len(FIGURES)))
    for name, clip in lesson.clips.items():
        cells = [f"{clip.figures[figure]:.3g}" for figure in FIGURES]
        lines.append(f"| {' '.join(WAYS[name]) if name == 'trained' else name} | {HOW[name]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def size(lesson: Lesson) -> str:
    """How many tokens, and of what."""
    frames, *picture = lesson.clips["joint"].frames.shape[:3]
    cell = [whole // part for whole, part in zip((frames, *picture), lesson.grid)]
    rows = " x ".join(map(str, lesson.grid))
    tokens = torch.Size(lesson.grid).numel()
    return (
        f"{frames} pictures of {picture[1]} x {picture[0]} pixels become {rows} = {tokens:,} tokens, one for each "
        f"{cell[0]} pictures of {cell[2]} x {cell[1]} pixels"
    )


def looked(lesson: Lesson) -> str:
    """Where the head of the picture looks."""
    block, head = lesson.sharpest()
    weights = lesson.weights("self", block)[head, lesson.query].view(lesson.grid)
    frame = lesson.query // weights[0].numel()
    inside, shape = weights[frame].sum(), weights[lesson.shape].sum()
    share = lesson.shape.float().mean().item()
    return (
        f"Head {head} of block {block} gives {percent(shape.item())} of its attention to the tokens of the shape, "
        f"{percent(share)} of all, and {percent(inside.item())} to the frame of the query, one of {lesson.grid[0]}"
    )


def heard(lesson: Lesson) -> str:
    """Where the words count."""
    block, found = attention_pictures.word_weights(lesson)
    return f"block {block}, mean of its {len(lesson.calls['cross', block][0])} heads"


def sound(lesson: Lesson) -> str:
    """The shapes of a block's calls in a small LTX-2."""
    who = {
        "self": ("picture", "picture"),
        "cross": ("picture", "prompt"),
        "audio self": ("sound", "sound"),
        "audio cross": ("sound", "prompt"),
        "video to audio": ("picture", "sound"),
        "audio to video": ("sound", "picture"),
    }
    modules = {role: module for module, role in ltxv.ATTENTION.items()}
    lines = ["| role in this pack | queries | keys and values | module | heads x channels |", "|" + " --- |" * 5]
    for role, ((_, queries, heads, width), (_, keys, *_)) in lesson.sound.items():
        asks, answers = who[role]
        cells = f"{queries}, {asks} | {keys}, {answers} | `{modules[role]}` | {heads} x {width}"
        lines.append(f"| {role} | {cells} |")
    return "\n".join(lines)


def costs(lesson: Lesson) -> str:
    """The figures of the picture of costs."""
    lines = ["| clip | model | tokens | attention, 10^12 | rest, 10^12 | attention's share |", "|" + " --- |" * 6]
    for model in (attention_charts.TRANSFORMER, attention_charts.UNET):
        for cost in attention_charts.of_one_size(model):
            clip = f"{cost.frames} x {cost.rows} x {cost.columns}"
            numbers = f"{cost.positions:,} | {cost.attention:.3g} | {cost.rest:.3g} | {cost.share} %"
            lines.append(f"| {clip} | {model} | {numbers} |")
    return "\n".join(lines)


def made(lesson: Lesson) -> str:
    """With what the page's figures were made."""
    subject = lesson.subject
    return (
        f'Prompt "{" ".join(subject.testbed.calibrated)}", seed {subject.seed}, {subject.steps} steps; '
        f"`python scripts/attention_page.py`, {tour.processor()}, {datetime.date.today()}"
    )


TABLES = {
    "size": size, "looked": looked, "heard": heard, "figures": figures, "made": made, "costs": costs, "sound": sound,
}  # fmt: skip


def write(lesson: Lesson, page: Path = PAGE) -> None:
    """Pictures beside the page, and what it says of them between its markers."""
    draw(lesson, page.parent)
    filled = {name: lambda make=make: make(lesson) for name, make in TABLES.items()}
    page.write_text(tables.filled(page.read_text(), filled))


def main() -> None:
    if host_paths.enter(cpu=True) is None:
        raise SystemExit("There is no ComfyUI in .host: run python scripts/host.py first.")
    with torch.inference_mode():
        write(attention_runs.gather())


if __name__ == "__main__":
    main()
