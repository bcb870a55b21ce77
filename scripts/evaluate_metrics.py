"""What Temporal Metrics says of clips with a fault, beside the same clips without: Markdown.

    python scripts/evaluate_metrics.py [--frames 16] [--side 240] [--drawn 4] [CLIP ...]

Each cell is the median over the clips of the damaged clip's figure over the clean one's; of shares, counts and the last
frame the figures themselves. Without files: the clips of filmed_clips.py, or with `--drawn` so many scenes of
drawn_faults.py, whose truth is known. A file's frames are made smaller until the longer side has `--side` pixels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import drawn_faults
import filmed_clips

from attention.measure.temporal import measure_clip

RATIOS = (
    "motion", "brightness flicker", "flicker", "flicker over detail", "warping error", "acceleration",
    "acceleration over motion", "identity drift", "colour drift", "sharpness", "sharpness of what moves",
)  # fmt: skip
PLAIN = ("frozen share", "loop share", "cuts", "last frame")


def read(path: str, frames: int, side: int) -> Tensor:
    """A clip's frames (T, H, W, 3), from its beginning."""
    from PIL import Image, ImageSequence

    if path.endswith(".webp"):
        images = [
            np.asarray(one.convert("RGB")) for _, one in zip(range(frames), ImageSequence.Iterator(Image.open(path)))
        ]
    else:
        import av

        with av.open(path) as container:
            images = [one.to_ndarray(format="rgb24") for _, one in zip(range(frames), container.decode(video=0))]
    pictures = torch.from_numpy(np.stack(images)).movedim(-1, 1).float() / 255
    scale = min(1.0, side / max(pictures.shape[2:]))
    size = [round(scale * n) for n in pictures.shape[2:]]
    return F.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(0, 1).movedim(1, -1)


def cells(clean: list[dict], damaged: list[dict]) -> list[str]:
    """The row of one fault."""
    found = []
    for name in RATIOS:
        pairs = [(one[name], two[name]) for one, two in zip(clean, damaged)]
        ratios = [two / one for one, two in pairs if two == two and one == one and one > 0]
        found.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
    for name in PLAIN:
        known = [one[name] for one in damaged if one[name] == one[name]]
        found.append(f"{statistics.median(known):.2g}" if known else "-")
    return found


def clips_of(options: argparse.Namespace) -> tuple[list, Callable, dict[str, Callable]]:
    """What each clip is made of, what makes it without a fault, and what makes it with each."""
    if options.drawn:
        shots = [drawn_faults.draw_shot(seed, options.frames, options.side) for seed in range(options.drawn)]
        return shots, drawn_faults.Shot.draw, drawn_faults.FAULTS
    # The longest way through a clip: uneven speed.
    need = 2 * options.frames
    sources = [read(path, need, options.side) for path in options.files] or [
        filmed_clips.film(camera, need, seed) for seed, camera in enumerate(filmed_clips.CAMERAS.values())
    ]
    faults = {name: partial(damage, count=options.frames) for name, damage in filmed_clips.FAULTS.items()}
    return sources, lambda source: source[: options.frames], faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--side", type=int, default=240)
    parser.add_argument("--drawn", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sources, plain, faults = clips_of(options)
    clean = [measure_clip(plain(source)).figures for source in sources]
    print(f"| fault | {' | '.join((*RATIOS, *PLAIN))} |")
    print(f"| --- |{' --- |' * len((*RATIOS, *PLAIN))}")
    absolute = [f"{statistics.median([one[name] for one in clean]):.2g}" for name in (*RATIOS, *PLAIN)]
    print(f"| none | {' | '.join(absolute)} |", flush=True)
    for name, damage in faults.items():
        damaged = [measure_clip(damage(source)).figures for source in sources]
        print(f"| {name} | {' | '.join(cells(clean, damaged))} |", flush=True)


if __name__ == "__main__":
    main()
