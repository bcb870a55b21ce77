"""Flux.1, Flux.2 and models of the same class."""

import torch

from .case import Case, build

CONFIG = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 8, "context_in_dim": 8,
    "hidden_size": 12, "num_heads": 1, "axes_dim": [4, 4, 4], "mlp_ratio": 2.0, "depth": 2, "depth_single_blocks": 2,
    "theta": 10000, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX2 = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1, "vec_in_dim": None,
    "hidden_size": 16, "axes_dim": [4, 4, 4, 4], "theta": 2000, "global_modulation": True, "mlp_silu_act": True,
    "qkv_bias": False, "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0, "txt_ids_dims": [3],
}  # fmt: skip
ONE_ENCODER = {"vec_in_dim": None, "guidance_embed": False, "txt_ids_dims": [1, 2]}


def dev():
    return build("Flux", CONFIG)


def fill():
    return build("FluxInpaint", {**CONFIG, "in_channels": 96})


def flux2():
    return build("Flux2", {**CONFIG, **FLUX2})


def longcat():
    return build("LongCatImage", {**CONFIG, **ONE_ENCODER})


def ovis():
    return build("FluxSchnell", {**CONFIG, **ONE_ENCODER, "yak_mlp": True, "txt_norm": True})


def latent(*shape):
    return lambda: torch.zeros(shape)


def pooled():
    return {"pooled_output": torch.ones(1, 8)}


def two_references():
    return {**pooled(), "reference_latents": [torch.ones(1, 16, 6, 4), torch.ones(1, 16, 5, 7)]}


def beside():
    return {**two_references(), "reference_latents_method": "uxo"}


def reference_from_zero():
    references = [torch.ones(1, 128, 3, 2)]
    return {"reference_latents": references, "reference_latents_method": "index_timestep_zero"}


def masked():
    return {**pooled(), "concat_latent_image": torch.ones(1, 16, 8, 10), "concat_mask": torch.ones(1, 1, 64, 80)}


def case(variant, model, shape, name="", after=(), conditioning=dict, before=7, cfg=1.0):
    return Case(
        variant, model, latent(*shape), (1, 7, 8), {"self": 4}, (1, 4, 5), (("text", before),), after, name=name,
        conditioning=conditioning, options={"cfg": cfg},
    )  # fmt: skip


IMAGE, IMAGE2 = (1, 16, 8, 10), (1, 128, 4, 5)
TWO = (("reference", 6), ("reference", 12))
ONE = (("reference", 6),)
# The host pads the prompt of Flux.2.
PADDED = 512

CASES = (
    case("Flux.1", dev, IMAGE, conditioning=pooled),
    case("Flux.1", dev, (2, 16, 7, 9), "two of odd size", conditioning=pooled),
    case("Flux.1 Kontext", dev, IMAGE, "two references", TWO, conditioning=two_references),
    case("Flux.1 Kontext", dev, IMAGE, "references beside, cfg", TWO, conditioning=beside, cfg=3.0),
    case("Flux.1 Fill", fill, IMAGE, conditioning=masked),
    case("Flux.2", flux2, IMAGE2, before=PADDED),
    case("Flux.2", flux2, IMAGE2, "one reference", ONE, conditioning=reference_from_zero, before=PADDED),
    case("LongCat-Image", longcat, IMAGE),
    case("Ovis-Image", ovis, IMAGE),
)
