"""A second node pack for the test server: in its old style, and with stand-ins for what cannot be made small."""

import random
import unittest.mock

import torch

# (tokens, channels) of the embedding; more of the conditioning. As tests/lib/tiny/files.py makes the models.
TEXTS = {"ltx": (7, 80), "wan": (7, 16), "hunyuan": (7, 16), "minimax": (7, 16)}


class StandInText:
    """Random conditioning of the right shape: the text encoders of these models have no small form."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "encode", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"multiline": True}), "family": (list(TEXTS),)}}

    def encode(self, text, family):
        return (conditioning(text, family),)


def conditioning(text, family):
    generator = torch.Generator().manual_seed(random.Random(text).getrandbits(32))
    return [[torch.randn(1, *TEXTS[family], generator=generator), {"pooled_output": torch.ones(1, 8)}]]


class StandInClip:
    """A CLIP for nodes that encode their prompt themselves: the same random conditioning, with or without images."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "load", ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"family": (list(TEXTS),)}}

    def load(self, family):
        return (Clip(family),)


class Clip:
    def __init__(self, family):
        self.family = family

    def tokenize(self, text, **shown):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return conditioning(tokens, self.family)


class StandInVision:
    """A CLIP vision model that gives random features of the large one's shape."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "load", ("CLIP_VISION",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (Vision(),)


class Vision:
    def encode_image(self, image, crop=True):
        import comfy.clip_vision

        output = comfy.clip_vision.Output()
        generator = torch.Generator().manual_seed(int(1000 * float(image.mean())))
        output["penultimate_hidden_states"] = torch.randn(1, 257, 1280, generator=generator)
        return output


class StandInVAE:
    """ComfyUI's own VAE class with fewer channels: the loader knows one width for these files."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "load", ("VAE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vae_name": (list(NARROW),)}}

    def load(self, vae_name):
        return (NARROW[vae_name](),)


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


def narrow_minimax():
    import comfy.ldm.minimax.vae as module
    import comfy.sd

    real, decoder = module.MiniMaxH3VideoVAE, module.ViT3DDecoder
    small = {"heads": 2, "num_layers": 1}
    with (
        unittest.mock.patch.object(module, "MiniMaxH3VideoVAE", lambda **given: real(ch=32, num_res_blocks=1, **given)),
        unittest.mock.patch.object(module, "ViT3DDecoder", lambda **config: decoder(**config, **small)),
    ):
        return comfy.sd.VAE(sd=random_weights(module.MiniMaxH3VideoVAE()))


def narrow_minimax_sound():
    import comfy.ldm.minimax.audio_vae as module
    import comfy.sd

    real = module.MiniMaxH3AudioVAE
    small = {"encoder_dim": 2, "latent_dim": 64, "decoder_dim": 128}
    with unittest.mock.patch.object(module, "MiniMaxH3AudioVAE", lambda: real(**small)):
        return comfy.sd.VAE(sd=random_weights(module.MiniMaxH3AudioVAE()))


def random_weights(model):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(w.shape, generator=generator) * 0.05 for name, w in model.state_dict().items()}


NARROW = {
    "wan2.2_vae.safetensors": narrow_wan,
    "hunyuanvideo15_vae_fp16.safetensors": narrow_hunyuan,
    "minimax_h3_video_vae_int8_convrot.safetensors": narrow_minimax,
    "minimax_h3_audio_vae_fp32.safetensors": narrow_minimax_sound,
}
NODE_CLASS_MAPPINGS = {
    "StandInText": StandInText,
    "StandInClip": StandInClip,
    "StandInVAE": StandInVAE,
    "StandInVision": StandInVision,
}
