"""What stands for encoders and decoders: random numbers of the right shape, the same for the same input."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import torch

from . import models

TOKENS, PATCHES = 7, 257
RATE, HOP = 16000, 640


def random(*shape, seed="", scale=1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(str(seed).encode()))
    return torch.randn(shape, generator=generator) * scale


def mean(pixels) -> float:
    """What an image is told by: rounded, since what made it may differ in the last bit."""
    return round(pixels.float().mean().item(), 3)


class Tokens(dict):
    """One text, whatever encoder is asked for."""

    def __missing__(self, key):
        return self["text"]


class CLIP:
    """A text encoder for the model of the file `name`."""

    def __init__(self, name: str):
        self.width, self.pooled = models.text(name)
        # ComfyUI's T5 of LTX-Video tells which tokens are text.
        masked = "t5xxl" in name and "ltxv" in name
        self.more = {"attention_mask": torch.ones(1, TOKENS, dtype=torch.long)} if masked else {}
        self.cond_stage_model = SimpleNamespace()

    def clone(self):
        return self

    def clip_layer(self, *_):
        pass

    def tokenize(self, text, **_):
        return Tokens(text=str(text))

    def _encode(self, tokens):
        return random(1, TOKENS, self.width, seed=tokens["text"]), torch.ones(1, self.pooled)

    def encode_from_tokens(self, tokens, return_pooled=False, return_dict=False, **_):
        cond, pooled = self._encode(tokens)
        if return_dict:
            return {"cond": cond, "pooled_output": pooled}
        return (cond, pooled) if return_pooled else cond

    def encode_from_tokens_scheduled(self, tokens, add_dict=None, **_):
        cond, pooled = self._encode(tokens)
        return [[cond, {"pooled_output": pooled, **self.more, **(add_dict or {})}]]


class Statistics:
    """Of a latent's channels: none."""

    def un_normalize(self, latent):
        return latent

    normalize = un_normalize


class VAE:
    """A VAE for video or images with the steps of the file `name`."""

    latent_dim, disable_offload, size, crop_input, patcher = 3, False, 0, False, None
    extra_1d_channel, audio_sample_rate, vae_dtype = None, RATE, torch.float32

    def __init__(self, name: str):
        self.latent_channels, self.space, self.time = models.latents(name)
        self.downscale_index_formula = (self.time, self.space, self.space)
        self.not_video = self.time == 1
        self.device = self.output_device = torch.device("cpu")
        self.first_stage_model = SimpleNamespace(per_channel_statistics=Statistics(), original_size=None)

    def spacial_compression_encode(self):
        return self.space

    spacial_compression_decode = spacial_compression_encode

    def temporal_compression_encode(self):
        return None if self.not_video else self.time

    temporal_compression_decode = temporal_compression_encode

    def throw_exception_if_invalid(self):
        pass

    def vae_encode_crop_pixels(self, pixels):
        return pixels

    def encode(self, pixels, *_, **__):
        pixels = pixels[..., :3]
        if not self.not_video and pixels.ndim == 4:
            pixels = pixels.unsqueeze(0)
        elif self.not_video:
            pixels = pixels.reshape(-1, *pixels.shape[-3:])
        count, *frames, height, width, _ = pixels.shape
        times = [(number - 1) // self.time + 1 for number in frames]
        shape = (count, self.latent_channels, *times, max(1, height // self.space), max(1, width // self.space))
        return random(*shape, seed=(mean(pixels), shape), scale=0.3)

    def decode(self, latent, *_, **__):
        if getattr(latent, "is_nested", False):
            latent = latent.unbind()[0]
        picture = torch.sigmoid(latent.float().mean(1))
        sizes = [length * self.space for length in picture.shape[-2:]]
        if picture.ndim == 4:
            sizes = [(picture.shape[1] - 1) * self.time + 1, *sizes]
        shown = torch.nn.functional.interpolate(picture.unsqueeze(1), size=sizes, mode="nearest")[:, 0]
        return shown.unsqueeze(-1).repeat(*[1] * shown.ndim, 3)

    encode_tiled, decode_tiled = encode, decode


class AudioVAE:
    """A VAE for sound: LTX's, or MiniMax H3's."""

    patcher, audio_sample_rate, audio_sample_rate_output, downscale_ratio = None, RATE, RATE, HOP

    def __init__(self, name: str):
        self.minimax = "h3" in name.lower()
        self.latent_channels = 32 if self.minimax else 8
        self.first_stage_model = SimpleNamespace(
            latent_frequency_bins=16, output_sample_rate=RATE, sample_rate=RATE,
            num_of_latents_from_frames=lambda frames, rate: max(1, round(frames / rate * RATE / HOP)),
        )  # fmt: skip

    def encode(self, wave, *_, **__):
        steps = max(1, wave.shape[1] // HOP)
        shape = (1, 32, 2, steps) if self.minimax else (1, 8, steps, 16)
        return random(*shape, seed=steps, scale=0.3)

    def decode(self, *_, **__):
        return torch.zeros(1, RATE, 2)

    decode_tiled = decode


class Vision:
    """CLIP's vision model."""

    def encode_image(self, image, crop=True):
        import comfy.clip_vision

        output, seed = comfy.clip_vision.Output(), mean(image)
        output["penultimate_hidden_states"] = random(1, PATCHES, 1280, seed=seed, scale=0.1)
        output["last_hidden_state"] = output["mm_projected"] = random(1, 6, 10, seed=seed)
        output["image_embeds"] = random(1, 16, seed=seed)
        return output


class AudioEncoder:
    """wav2vec2, as wide as tests/lib/tiny has it, or Whisper."""

    def __init__(self, name: str):
        self.layers, self.width = (33, 1280) if "whisper" in name else (25 if "large" in name else 12, 8)

    def encode_audio(self, wave, rate):
        layers = [random(1, 60, self.width, seed=layer) for layer in range(self.layers)]
        return {"encoded_audio": layers[-1], "encoded_audio_all_layers": layers, "audio_samples": RATE}


class Upscaler(torch.nn.Module):
    """Twice as wide and high."""

    def forward(self, latent):
        return torch.nn.functional.interpolate(latent, scale_factor=(1, 2, 2), mode="nearest")
