"""How far from the truth the optical flow of the clip metrics is, on known motions of pictures: Markdown.

    python scripts/evaluate_flow.py [--noise 0.02] PICTURE_OR_CLIP ...

Our own flow, and OpenCV's where it can be imported, which the metrics then use instead.

Of each file the first frame (of a clip, the frame in its middle). It is enlarged or made smaller to each size and moved
by a known flow, read bicubically; the error is the mean distance between the flow found and the true one, away from the
border by as much as the motion. `--noise` adds normal noise of this deviation to both frames.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attention.core.reason import Reason
from attention.measure import opencv_flow
from attention.measure.flow import estimate_flow, warp
from attention.measure.frames import to_luma

SIZES = ((240, 416), (480, 832), (720, 1280))
MOTIONS = ("pan 1.7 px", "pan 9.5 px", "rotation 1 degree", "zoom 2 %")


def frame_of(path: str) -> torch.Tensor:
    """(1, 3, H, W) in 0..1."""
    import av

    with av.open(path) as container:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(60), container.decode(video=0))]
    return torch.from_numpy(np.array(frames[len(frames) // 2])).movedim(-1, 0)[None].float() / 255


def true_flow(motion: str, size) -> torch.Tensor:
    """(1, 2, H, W) of one of MOTIONS."""
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in size)
    x, y = columns.expand(size), rows[:, None].expand(size)
    if motion.startswith("pan"):
        length = float(motion.split()[1])
        return torch.stack([torch.full(size, length * 0.8), torch.full(size, length * 0.6)])[None]
    if motion.startswith("zoom"):
        return torch.stack([x, y])[None] * 0.02
    turn = math.radians(1)
    return torch.stack([x * (math.cos(turn) - 1) - y * math.sin(turn), x * math.sin(turn) + y * (math.cos(turn) - 1)])[
        None
    ]


def error_of(estimate, pair, true: torch.Tensor) -> tuple[float, float]:
    """Mean distance in pixels, and seconds of processor time."""
    begin = time.process_time()
    found = estimate(*pair)
    spent = time.process_time() - begin
    edge = math.ceil(true.abs().max().item()) + 4
    miss = (found - true).norm(dim=1)[:, edge:-edge, edge:-edge]
    return miss.mean().item(), spent


def pair_of(picture: torch.Tensor, size, true: torch.Tensor, noise: float) -> list[torch.Tensor]:
    """Luma of the picture moved by a flow, and of the picture."""
    random = torch.Generator().manual_seed(0)
    second = to_luma(F.interpolate(picture, size, mode="bicubic", antialias=True).clamp(0, 1))
    pair = warp(second, true, "bicubic"), second
    return [(x + noise * torch.randn(x.shape, generator=random)).clamp(0, 1) for x in pair]


def ways() -> dict:
    """The flows that run here, by their names."""
    library = opencv_flow.load()
    found = {"Lucas-Kanade": estimate_flow}
    if not isinstance(library, Reason):
        library.setNumThreads(1)
        found["OpenCV DIS"] = partial(opencv_flow.search, library)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--noise", type=float, default=0.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = [frame_of(path) for path in options.files]
    print(f"| frame | flow | {' | '.join(MOTIONS)} | seconds |")
    print(f"| --- | --- |{' --- |' * (len(MOTIONS) + 1)}")
    for size, (name, estimate) in itertools.product(SIZES, ways().items()):
        found = []
        for motion in MOTIONS:
            true = true_flow(motion, size)
            pairs = [pair_of(picture, size, true, options.noise) for picture in pictures]
            found.append([error_of(estimate, pair, true) for pair in pairs])
        errors = [f"{sum(error for error, _ in each) / len(each):.2f}" for each in found]
        spent = [seconds for each in found for _, seconds in each]
        cells = f"{size[1]} x {size[0]}", name, *errors, f"{sum(spent) / len(spent):.2f}"
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
