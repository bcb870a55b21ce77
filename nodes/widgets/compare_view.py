"""What web/compare.js plays: two clips in one file, and their figures."""

from __future__ import annotations

import math

import torch

from ...attention.measure.compare import Comparison
from . import clip_file


def plain(value):
    """Puts None where JSON has no number: it knows neither NaN nor infinity."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def of(clips: list[torch.Tensor], found: Comparison, verdict: str, **more) -> tuple[dict, ...]:
    """Saves both clips and gives what is to be told of them; nothing where the file cannot be made.

    clips: A, the reference, and B, each (T, H, W, C) in 0 to 1.
    found: how far B is from A.
    verdict: what to think of it, in words.
    more: of each of the two, in a list: `names`, `seconds` of the sampling, `peak_mib` of it, `call_mib` of the
        attention call that took most; None where unknown.
    """
    file = clip_file.save_clips(clips)
    if file is None:
        return ()
    psnr, ssim = ([plain(value) for value in (one.mean, *one.values)] for one in (found.psnr, found.ssim))
    figures = {"psnr": psnr[0], "ssim": ssim[0], "psnr_of": psnr[1:], "ssim_of": ssim[1:], "worst": found.worst}
    told = {name: [plain(value) for value in both] for name, both in more.items()}
    return ({"clips": file, **figures, "equal": found.equal, "verdict": verdict, **told},)
