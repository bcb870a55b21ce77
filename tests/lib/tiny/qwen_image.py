"""Qwen-Image."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "patch_size": 2, "num_layers": 2,
    "attention_head_dim": 12, "num_attention_heads": 1, "joint_attention_dim": 8, "axes_dims_rope": (4, 4, 4),
}  # fmt: skip
TEXT = (1, 7, 8)


def plain():
    return build("QwenImage", CONFIG)


def edit_2511():
    return build("QwenImage", {**CONFIG, "default_ref_method": "index_timestep_zero"})


def layered():
    return build("QwenImage", {**CONFIG, "default_ref_method": "negative_index", "use_additional_t_cond": True})


def latent(*shape):
    return lambda: torch.zeros(shape)


def padded():
    return {"attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0, 0]])}


def two_references():
    return {"reference_latents": [torch.ones(1, 16, 1, 6, 4), torch.ones(1, 16, 1, 5, 7)]}


def one_reference():
    return {"reference_latents": [torch.ones(1, 16, 1, 8, 10)]}


IMAGE = latent(1, 16, 1, 8, 10)
CALLS = {"self": 2}
BEFORE = (("text", 7),)
AFTER = (("reference", 6), ("reference", 12))

CASES = (
    Case("Qwen-Image", plain, IMAGE, TEXT, CALLS, (1, 4, 5), BEFORE),
    Case("Qwen-Image", plain, latent(2, 16, 1, 7, 9), TEXT, CALLS, (1, 4, 5), BEFORE, name="two of odd size"),
    Case("Qwen-Image", plain, IMAGE, TEXT, CALLS, (1, 4, 5), BEFORE, name="padded prompt", conditioning=padded),
    Case("Qwen-Image-Edit", plain, IMAGE, TEXT, CALLS, (1, 4, 5), BEFORE, AFTER, conditioning=two_references),
    Case("Qwen-Image-Edit 2511", edit_2511, IMAGE, TEXT, CALLS, (1, 4, 5), BEFORE, AFTER, conditioning=two_references),
    Case(
        "Qwen-Image-Layered", layered, latent(1, 16, 3, 8, 10), TEXT, CALLS, (3, 4, 5), BEFORE, (("reference", 20),),
        conditioning=one_reference,
    ),
)  # fmt: skip
