"""SeedVR2, which the override does not reach."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "seedvr2", "vid_dim": 32, "heads": 2, "head_dim": 16, "num_layers": 2, "mm_layers": 1,
    "norm_eps": 1e-5, "mlp_type": "swiglu", "rope_dim": 16,
}  # fmt: skip


def model():
    return build("SeedVR2", CONFIG)


def latent():
    return torch.zeros(1, 16, 3, 4, 6)


def low_resolution():
    return {"condition": torch.zeros(1, 17, 3, 4, 6)}


# Not one of CASES: no call of its attention comes through.
CASE = Case("SeedVR2", model, latent, (1, 7, 5120), {}, conditioning=low_resolution)
