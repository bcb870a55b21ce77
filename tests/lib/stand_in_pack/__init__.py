"""A second node pack for the test server: in its old style, and with stand-ins for what cannot be made small."""

import random
import unittest.mock

import torch

# (tokens, channels) of the embedding; more of the conditioning. As tests/lib/tiny/files.py makes the models.
TEXTS = {"ltx": (7, 80), "wan": (7, 16), "hunyuan": (7, 16)}
NARROW = {"wan2.2_vae.safetensors": 8, "hunyuanvideo15_vae_fp16.safetensors": 32}


class StandInText:
    """Random conditioning of the right shape: the text encoders of these models have no small form."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "encode", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True}), "family": (list(TEXTS),)}}

    def encode(self, text, family):
        generator = torch.Generator().manual_seed(random.Random(text).getrandbits(32))
        return ([[torch.randn(1, *TEXTS[family], generator=generator), {"pooled_output": torch.ones(1, 8)}]],)


class StandInVAE:
    """ComfyUI's own VAE class with fewer channels: the loader knows one width for these two files."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "load", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae_name": (list(NARROW),)}}

    def load(self, vae_name):
        return (narrow_wan() if vae_name.startswith("wan") else narrow_hunyuan(),)


def narrow_wan():
    import comfy.ldm.wan.vae2_2 as module
    import comfy.sd

    real = module.WanVAE
    with unittest.mock.patch.object(module, "WanVAE", lambda **config: real(**{**config, "dim": 8, "dec_dim": 8})):
        config = {"z_dim": 48, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": [], "dropout": 0.0}
        model = module.WanVAE(**config, temperal_downsample=[False, True, True])
        return comfy.sd.VAE(sd=random_weights(model))


def narrow_hunyuan():
    import comfy.ldm.hunyuan_video.vae_refiner as module
    import comfy.sd

    width = {"block_out_channels": [32] * 5, "num_res_blocks": 1}
    encoder, decoder = module.Encoder, module.Decoder
    with (
        unittest.mock.patch.object(module, "Encoder", lambda **config: encoder(**{**config, **width})),
        unittest.mock.patch.object(module, "Decoder", lambda **config: decoder(**{**config, **width})),
    ):
        shape = {"z_channels": 32, "out_channels": 3, "ffactor_spatial": 16, "ffactor_temporal": 4}
        weights = random_weights(module.Decoder(**shape))
        return comfy.sd.VAE(sd={f"decoder.{name}": weight for name, weight in weights.items()})


def random_weights(model):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(w.shape, generator=generator) * 0.05 for name, w in model.state_dict().items()}


NODE_CLASS_MAPPINGS = {"StandInText": StandInText, "StandInVAE": StandInVAE}
