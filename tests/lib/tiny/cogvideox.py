"""CogVideoX 1.0 and 1.5."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "cogvideox", "num_attention_heads": 1, "attention_head_dim": 16, "time_embed_dim": 8,
    "num_layers": 2, "in_channels": 16, "patch_size": 2, "text_embed_dim": 8,
    "use_rotary_positional_embeddings": True,
}  # fmt: skip
# Positions learned for one size, as in the image-to-video model of 1.0.
LEARNED = {
    "num_attention_heads": 3, "use_rotary_positional_embeddings": False, "use_learned_positional_embeddings": True,
    "max_text_seq_length": 7, "sample_width": 10, "sample_height": 8, "sample_frames": 9,
}  # fmt: skip


def t2v():
    return build("CogVideoX_T2V", CONFIG)


def i2v():
    return build("CogVideoX_I2V", {**CONFIG, **LEARNED, "in_channels": 32})


def fun():
    return build("CogVideoX_Inpaint", {**CONFIG, "in_channels": 48})


def t2v_15():
    return build("CogVideoX_T2V", {**CONFIG, "patch_size_t": 2})


def i2v_15():
    return build("CogVideoX_I2V", {**CONFIG, "patch_size_t": 2, "in_channels": 32, "ofs_embed_dim": 8})


def void():
    """CogVideoX Fun 1.5, as void_pass1 and void_pass2 load."""
    return build("CogVideoX_Inpaint", {**CONFIG, "patch_size_t": 2, "in_channels": 48})


def latent(*shape):
    return lambda: torch.zeros(shape)


def start():
    return {"concat_latent_image": torch.ones(1, 16, 1, 8, 10)}


def masked():
    return {"concat_latent_image": torch.ones(1, 32, 3, 8, 10)}


def quadmask():
    """What VOIDInpaintConditioning gives: the mask's latents, then those of the video without what is masked."""
    return {"concat_latent_image": torch.ones(1, 32, 4, 8, 10)}


def case(variant, model, shape, grid, name="", conditioning=dict, cfg=1.0):
    return Case(
        variant, model, latent(*shape), (1, 7, 8), {"self": 2}, grid, (("text", 7),), name=name,
        conditioning=conditioning, options={"cfg": cfg},
    )  # fmt: skip


CASES = (
    case("CogVideoX", t2v, (1, 16, 3, 8, 10), (3, 4, 5)),
    case("CogVideoX", t2v, (1, 16, 3, 7, 9), (3, 4, 5), "odd size"),
    case("CogVideoX", t2v, (2, 16, 1, 8, 10), (1, 4, 5), "batch of 2 images, cfg", cfg=3.0),
    case("CogVideoX I2V", i2v, (1, 16, 3, 8, 10), (3, 4, 5), conditioning=start),
    case("CogVideoX Fun", fun, (1, 16, 3, 8, 10), (3, 4, 5), conditioning=masked),
    case("CogVideoX 1.5", t2v_15, (1, 16, 4, 8, 10), (2, 4, 5)),
    case("CogVideoX 1.5", t2v_15, (1, 16, 3, 7, 9), (2, 4, 5), "odd size and length"),
    case("CogVideoX 1.5 I2V", i2v_15, (1, 16, 4, 8, 10), (2, 4, 5), conditioning=start),
    case("VOID", void, (1, 16, 4, 8, 10), (2, 4, 5), conditioning=quadmask),
    case("VOID", void, (2, 16, 4, 8, 10), (2, 4, 5), "batch of 2, cfg", conditioning=quadmask, cfg=6.0),
)
