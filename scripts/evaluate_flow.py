"""How far from the truth the optical flow of the clip metrics is, on known motions of pictures: Markdown.

    python scripts/evaluate_flow.py PICTURE_OR_CLIP ...

Of each file the first frame (of a clip, the frame in its middle). It is enlarged or made smaller to each size and moved
by a known flow, read bicubically; the error is the mean distance between the flow found and the true one, away from the
border by as much as the motion.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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


def error_of(picture: torch.Tensor, size, motion: str) -> tuple[float, float]:
    """Mean distance in pixels, and seconds of processor time."""
    second = to_luma(F.interpolate(picture, size, mode="bicubic", antialias=True).clamp(0, 1))
    true = true_flow(motion, size)
    first = warp(second, true, "bicubic")
    begin = time.process_time()
    found = estimate_flow(first, second)
    spent = time.process_time() - begin
    edge = math.ceil(true.abs().max().item()) + 4
    miss = (found - true).norm(dim=1)[:, edge:-edge, edge:-edge]
    return miss.mean().item(), spent


def main() -> None:
    torch.set_num_threads(1)
    pictures = [frame_of(path) for path in sys.argv[1:]]
    if not pictures:
        sys.exit(__doc__)
    print(f"| size | {' | '.join(MOTIONS)} | seconds |")
    print(f"| --- |{' --- |' * (len(MOTIONS) + 1)}")
    for size in SIZES:
        found = [[error_of(picture, size, motion) for picture in pictures] for motion in MOTIONS]
        errors = [f"{sum(error for error, _ in each) / len(each):.2f}" for each in found]
        spent = [seconds for each in found for _, seconds in each]
        print(f"| {size[1]} x {size[0]} | {' | '.join(errors)} | {sum(spent) / len(spent):.2f} |", flush=True)


if __name__ == "__main__":
    main()
