"""Drawn pictures as ComfyUI passes them on."""

import numpy as np
import torch


def to_image(picture) -> torch.Tensor:
    """Makes an IMAGE (1, H, W, 3), 0 to 1, of a drawn RGB picture."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)[None]
