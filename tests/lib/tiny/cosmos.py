"""Cosmos 1, Cosmos Predict2, Anima."""

import functools
from unittest import mock

from .case import Case, build

SHARED = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1,
    "model_channels": 48, "num_blocks": 2, "num_heads": 2, "concat_padding_mask": True, "crossattn_emb_channels": 16,
    "pos_emb_cls": "rope3d", "pos_emb_interpolation": "crop", "use_adaln_lora": True, "adaln_lora_dim": 8,
}  # fmt: skip
FIRST = {
    **SHARED, "image_model": "cosmos", "in_channels": 16, "block_config": "FA-CA-MLP", "block_x_format": "THWBD",
    "affline_emb_norm": True, "pos_emb_learnable": False, "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable", "rope_t_extrapolation_ratio": 2.0,
}  # fmt: skip
SECOND = {
    **SHARED, "image_model": "cosmos_predict2", "in_channels": 16, "pos_emb_learnable": True, "min_fps": 1,
    "max_fps": 30, "extra_per_block_abs_pos_emb": False, "rope_enable_fps_modulation": False,
}  # fmt: skip


def text_to_world():
    return build("CosmosT2V", FIRST)


def video_to_world():
    return build("CosmosI2V", {**FIRST, "in_channels": 17})


def predict2():
    return build("CosmosT2IPredict2", SECOND)


def predict2_video():
    return build("CosmosI2VPredict2", {**SECOND, "in_channels": 17})


def anima():
    """The host's adapter of the text has sizes of its own: 130 million weights."""
    import comfy.ldm.anima.model as host

    small = functools.partial(host.LLMAdapter, source_dim=16, target_dim=16, model_dim=16, num_heads=2, num_layers=1)
    with mock.patch.object(host, "LLMAdapter", small):
        return build("Anima", {**SECOND, "image_model": "anima"})


def latent(*shape):
    def zeros():
        import torch

        return torch.zeros(shape)

    return zeros


def text_ids():
    import torch

    return {"t5xxl_ids": torch.arange(5), "t5xxl_weights": torch.ones(5)}


def first_frame():
    """Noise everywhere but in frame 0, as the image-to-video nodes mask it."""
    import torch

    mask = torch.ones(1, 1, 3, 4, 6)
    mask[:, :, 0] = 0
    return mask


def conditioned():
    return {"concat_mask": first_frame()}


TEXT = (1, 7, 16)
CALLS = {"self": 2, "cross": 2}
VIDEO = latent(1, 16, 3, 4, 6)
GRID = (3, 2, 3)

CASES = (
    Case("Cosmos 1.0 Text2World", text_to_world, VIDEO, TEXT, CALLS, GRID),
    Case("Cosmos 1.0 Text2World", text_to_world, latent(1, 16, 1, 4, 2), TEXT, CALLS, (1, 2, 1), name="one frame"),
    Case("Cosmos 1.0 Text2World", text_to_world, VIDEO, TEXT, CALLS, GRID, name="cfg", options={"cfg": 3.0}),
    Case("Cosmos 1.0 Text2World", text_to_world, latent(2, 16, 3, 4, 6), TEXT, CALLS, GRID, name="batch of 2"),
    Case("Cosmos 1.0 Video2World", video_to_world, VIDEO, TEXT, CALLS, GRID, conditioning=conditioned),
    Case("Cosmos Predict2 Text2Image", predict2, latent(1, 16, 1, 4, 6), TEXT, CALLS, (1, 2, 3)),
    Case("Cosmos Predict2 Text2Image", predict2, latent(1, 16, 1, 5, 7), TEXT, CALLS, (1, 3, 4), name="odd size"),
    Case("Cosmos Predict2 Video2World", predict2_video, VIDEO, TEXT, CALLS, GRID),
    Case(
        "Cosmos Predict2 Video2World", predict2_video, VIDEO, TEXT, CALLS, GRID, name="image to video",
        conditioning=conditioned,
    ),
    Case(
        "Cosmos Predict2 Video2World", predict2_video, latent(2, 16, 3, 5, 6), TEXT, CALLS, (3, 3, 3),
        name="batch of 2, odd size, cfg", options={"cfg": 3.0},
    ),
    Case("Anima", anima, latent(1, 16, 1, 4, 6), TEXT, CALLS, (1, 2, 3)),
    Case("Anima", anima, latent(1, 16, 1, 4, 6), TEXT, CALLS, (1, 2, 3), name="token ids", conditioning=text_ids),
)  # fmt: skip
