"""HunyuanVideo, HunyuanVideo 1.5 and HunyuanImage 2.1."""

from types import SimpleNamespace

import torch

from .case import Case, build

CONFIG = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2], "vec_in_dim": 8,
    "context_in_dim": 8, "hidden_size": 12, "num_heads": 1, "axes_dim": [4, 4, 4], "mlp_ratio": 2.0, "depth": 2,
    "depth_single_blocks": 2, "theta": 256, "qkv_bias": True, "guidance_embed": True, "byt5": False, "meanflow": False,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
NEWER = {"patch_size": [1, 1, 1], "vec_in_dim": None, "guidance_embed": False, "byt5": True}
V15 = {
    "in_channels": 65,
    "out_channels": 32,
    "use_cond_type_embedding": True,
    "vision_in_dim": 10,
    "meanflow_sum": True,
}
IMAGE = {"in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [6, 6]}
REFINER = {"in_channels": 128, "out_channels": 64, "byt5": False, "meanflow": True}
CALLS = {"text": 2, "self": 4}
TEXT = (("text", 7),)


def t2v():
    return build("HunyuanVideo", CONFIG)


def i2v():
    return build("HunyuanVideoI2V", {**CONFIG, "in_channels": 33})


def skyreels():
    return build("HunyuanVideoSkyreelsI2V", {**CONFIG, "in_channels": 32})


def v15():
    return build("HunyuanVideo15", {**CONFIG, **NEWER, **V15})


def v15_sr():
    return build("HunyuanVideo15_SR_Distilled", {**CONFIG, **NEWER, **V15, "in_channels": 98, "meanflow": True})


def image():
    return build("HunyuanImage21", {**CONFIG, **NEWER, **IMAGE})


def refiner():
    return build("HunyuanImage21Refiner", {**CONFIG, **NEWER, **REFINER})


def latent(*shape):
    return lambda: torch.zeros(shape)


def given(**more):
    """What every variant takes, and `more`: a shape for a tensor of ones, or any other value as it is."""

    def make():
        tensors = {name: torch.ones(value) if isinstance(value, tuple) else value for name, value in more.items()}
        return {"pooled_output": torch.ones(1, 8), **tensors}

    return make


def case(variant, model, shape, grid, before=TEXT, name="", cfg=1.0, **more):
    options = {"cfg": cfg}
    return Case(
        variant, model, latent(*shape), (1, 7, 8), CALLS, grid, before, name=name, conditioning=given(**more),
        options=options,
    )  # fmt: skip


VIDEO, GRID = (1, 16, 3, 8, 6), (3, 4, 3)
VIDEO15, GRID15 = (1, 32, 3, 4, 5), (3, 4, 5)
START = {"concat_latent_image": VIDEO, "concat_mask": (1, 1, 3, 8, 6)}
START15 = {
    "concat_latent_image": VIDEO15, "concat_mask": (1, 1, 3, 4, 5),
    "clip_vision_output": SimpleNamespace(last_hidden_state=torch.ones(1, 6, 10)),
}  # fmt: skip
QUOTED = {"conditioning_byt5small": (1, 5, 1472)}

CASES = (
    case("HunyuanVideo", t2v, VIDEO, GRID),
    case("HunyuanVideo", t2v, (2, 16, 1, 8, 6), (1, 4, 3), name="batch of 2 images, cfg", cfg=3.0),
    case("HunyuanVideo", t2v, VIDEO, GRID, name="padded prompt", attention_mask=torch.tensor([[1, 1, 1, 1, 1, 0, 0]])),
    case("HunyuanVideo I2V", i2v, VIDEO, GRID, **START),
    case("HunyuanVideo I2V", i2v, VIDEO, GRID, name="first frame kept", guiding_frame_index=0, **START),
    case(
        "HunyuanVideo I2V", t2v, VIDEO, GRID, (*TEXT, ("reference", 15)), name="reference of another size",
        ref_latent=(1, 16, 1, 6, 10),
    ),
    case("SkyReels V1 I2V", skyreels, VIDEO, GRID, **START),
    case("HunyuanVideo 1.5", v15, VIDEO15, GRID15),
    case("HunyuanVideo 1.5", v15, VIDEO15, GRID15, (("byt5", 5), *TEXT), name="quoted text", cfg=3.0, **QUOTED),
    case(
        "HunyuanVideo 1.5", v15, VIDEO15, GRID15, (("vision", 6), ("byt5", 5), *TEXT), name="I2V", **QUOTED, **START15
    ),
    case("HunyuanVideo 1.5 SR", v15_sr, VIDEO15, GRID15),
    # Capybara's files load as HunyuanVideo 1.5; its templates use that model's node, with and without a picture.
    case("Capybara", v15, VIDEO15, GRID15, (("vision", 6), *TEXT), cfg=6.0, **START15),
    case("Capybara", v15, (1, 32, 1, 4, 5), (1, 4, 5), name="one picture from text", cfg=6.0),
    case("HunyuanImage 2.1", image, (1, 64, 4, 5), (1, 4, 5)),
    case("HunyuanImage 2.1", image, (1, 64, 4, 5), (1, 4, 5), (*TEXT, ("byt5", 5)), name="quoted text", **QUOTED),
    case("HunyuanImage 2.1 refiner", refiner, (1, 64, 1, 4, 5), (1, 4, 5)),
)  # fmt: skip
