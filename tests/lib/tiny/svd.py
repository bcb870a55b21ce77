"""Stable Video Diffusion, and the image U-Nets of its class."""

from .case import Case, build

# Group norms have 32 groups; the heads of SVD are 64 wide. Three levels, attention in the first two and the middle.
UNET = {
    "image_size": 32, "out_channels": 4, "use_spatial_transformer": True, "legacy": False, "use_checkpoint": False,
    "in_channels": 4, "num_res_blocks": [1, 1, 1], "channel_mult": [1, 1, 2], "transformer_depth": [1, 1, 0],
    "transformer_depth_output": [1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1, "context_dim": 16,
    "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
VIDEO = {
    **UNET, "in_channels": 8, "model_channels": 64, "use_linear_in_transformer": True, "num_classes": "sequential",
    "use_temporal_attention": True, "use_temporal_resblock": True, "extra_ff_mix_layer": True,
    "use_spatial_context": True, "merge_strategy": "learned_with_images", "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1], "disable_temporal_crossattention": False, "num_res_blocks": [1, 1],
    "channel_mult": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [0, 1, 0, 1],
}  # fmt: skip


def svd():
    return build("SVD_img2vid", {**VIDEO, "adm_in_channels": 768})


def sv3d():
    return build("SV3D_u", {**VIDEO, "adm_in_channels": 256, "disable_temporal_crossattention": True})


def sd15():
    return build("SD15", {**UNET, "model_channels": 32, "use_linear_in_transformer": False, "adm_in_channels": None})


def upscaler():
    """Its three finer levels attend to the text twice and to themselves not at all."""
    config = {
        **UNET,
        "in_channels": 7,
        "model_channels": 32,
        "use_linear_in_transformer": True,
        "adm_in_channels": None,
    }
    levels = {"num_res_blocks": [1] * 4, "channel_mult": [1] * 4, "transformer_depth": [1, 0, 0, 1]}
    return build("SD_X4Upscaler", {**config, **levels, "transformer_depth_output": [1, 1, 0, 0, 0, 0, 1, 1]})


def sdxl():
    return build(
        "SDXL",
        {
            **UNET, "model_channels": 64, "use_linear_in_transformer": True, "num_classes": "sequential",
            "num_head_channels": 64, "adm_in_channels": 1552, "transformer_depth": [0, 2, 0],
            "transformer_depth_output": [0, 0, 2, 2, 0, 0], "transformer_depth_middle": 2,
        },
    )  # fmt: skip


def latent(*shape):
    def zeros():
        import torch

        return torch.zeros(shape)

    return zeros


def pooled():
    import torch

    return {"pooled_output": torch.ones(1, 16)}


PICTURE, TEXT = (1, 1, 16), (1, 7, 16)
# 2 blocks down, 1 in the middle, 2 up; with a twin over time each.
BOTH = {"spatial": 5, "temporal": 5, "image": 10}

CASES = (
    Case("Stable Video Diffusion", svd, latent(3, 4, 4, 6), PICTURE, BOTH),
    Case("Stable Video Diffusion", svd, latent(3, 4, 5, 7), PICTURE, BOTH, name="odd size"),
    Case("Stable Video Diffusion", svd, latent(1, 4, 4, 6), PICTURE, BOTH, name="one frame"),
    Case("Stable Video Diffusion", svd, latent(3, 4, 4, 6), PICTURE, BOTH, name="cfg", options={"cfg": 3.0}),
    Case("SV3D", sv3d, latent(3, 4, 4, 6), PICTURE, {**BOTH, "image": 5}),
    Case("Stable Diffusion 1.5", sd15, latent(1, 4, 8, 12), TEXT, {"spatial": 7, "cross": 7}),
    Case(
        "Stable Diffusion 1.5", sd15, latent(2, 4, 7, 9), TEXT, {"spatial": 7, "cross": 7},
        name="batch of 2, odd size, cfg", options={"cfg": 3.0},
    ),
    Case("SDXL", sdxl, latent(1, 4, 8, 12), TEXT, {"spatial": 8, "cross": 8}, conditioning=pooled),
    Case("Stable Diffusion x4 upscaler", upscaler, latent(1, 4, 8, 16), TEXT, {"spatial": 4, "cross": 10}),
)  # fmt: skip
