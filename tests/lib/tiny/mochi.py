"""Mochi 1."""

import torch

from .case import Case, build

# hidden_size_x * mlp_ratio_x must be 12288: the host's class insists on the real model's width.
CONFIG = {
    "image_model": "mochi_preview", "depth": 2, "patch_size": 2, "num_heads": 2, "hidden_size_x": 48,
    "hidden_size_y": 24, "mlp_ratio_x": 256.0, "mlp_ratio_y": 4.0, "learn_sigma": False, "in_channels": 12,
    "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True,
    "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False, "timestep_scale": 1000.0,
    "use_t5": True, "t5_feat_dim": 64, "t5_token_length": 256, "rope_theta": 10000.0,
}  # fmt: skip


def model():
    return build("GenmoMochi", CONFIG)


def video():
    return torch.zeros(1, 12, 3, 8, 6)


def two_images():
    return torch.zeros(2, 12, 1, 8, 6)


def whole():
    return {"attention_mask": torch.ones(1, 7, dtype=torch.long)}


def padded():
    return {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0, 0]])}


CASES = (
    Case(
        "Mochi 1", model, video, (1, 7, 64), {"self": 2}, grid=(3, 4, 3), after=(("text", 7),), conditioning=whole
    ),
    Case(
        "Mochi 1", model, video, (1, 7, 64), {"self": 2}, grid=(3, 4, 3), after=(("text", 5),), name="padded prompt",
        conditioning=padded,
    ),
    Case(
        "Mochi 1", model, two_images, (1, 7, 64), {"self": 2}, grid=(1, 4, 3), after=(("text", 7),),
        name="batch of 2 images", conditioning=whole,
    ),
)  # fmt: skip
