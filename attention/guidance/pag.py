"""Perturbed attention guidance (https://arxiv.org/abs/2403.17377): away from the model whose attention is an identity.

guided = model + scale * (model - perturbed model); in the perturbed one each token of the chosen blocks attends to
itself alone.
"""

from __future__ import annotations

import torch

from ..core.precision import downcast, upcast

NAME = "Perturbed attention guidance"


def usual_block(blocks: int) -> int:
    """Return the block to perturb when the user names none: the middle one of `blocks`, as in the paper's U-Net."""
    return blocks // 2


def guide(guided, strong, weak, scale: float) -> torch.Tensor:
    """Return the prediction (B, ...) moved away from the perturbed model's.

    guided: (B, ...), what guidance made so far.
    strong: (B, ...), the model's own prediction.
    weak: (B, ...), the perturbed model's.
    scale: how far; 0 is off.
    """
    dtype, (guided, strong, weak) = guided.dtype, upcast(guided, strong, weak)
    return downcast(guided + scale * (strong - weak), dtype)
