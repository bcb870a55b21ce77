"""Spatiotemporal skip guidance (https://arxiv.org/abs/2411.18664): away from the model with one block's attention off.

guided = model + scale * (model - weaker model), the weaker one from an extra pass in which self-attention of the chosen
blocks passes its values on or is skipped.
"""

from __future__ import annotations

import torch

from ..core.precision import downcast, upcast

NAME = "Spatiotemporal guidance"


def usual_block(blocks: int, known: int | None = None) -> int:
    """Return the block to perturb when the user names none: the known one, else one two thirds down.

    blocks: how many the model has.
    known: the one in the authors' or the model's own settings, None where there is none.
    """
    return known if known is not None and known < blocks else blocks * 2 // 3


def guide(guided, strong, weak, scale: float, rescale: float = 0.0) -> torch.Tensor:
    """Return the prediction (B, ...) moved away from the weaker model's.

    guided: (B, ...), what guidance made so far.
    strong: (B, ...), the model's own prediction.
    weak: (B, ...), the weaker model's.
    scale: how far; 0 is off.
    rescale: 0 to 1, how far each clip's standard deviation is brought back to that of `strong`.
    """
    dtype, (guided, strong, weak) = guided.dtype, upcast(guided, strong, weak)
    out = guided + scale * (strong - weak)
    if rescale != 0.0:
        axes = tuple(range(1, out.ndim))
        factor = strong.std(dim=axes, keepdim=True) / out.std(dim=axes, keepdim=True).clamp(min=1e-12)
        out = out * (rescale * factor + 1.0 - rescale)
    return downcast(out, dtype)
