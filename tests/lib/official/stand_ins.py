"""Nodes that stand for what is large or elsewhere: loaders, media, detectors, nodes of an API."""

from __future__ import annotations

from fractions import Fraction

import torch

from . import fakes, models

FRAMES, HEIGHT, WIDTH = 17, 96, 160


def pictures(count=1, seed="picture"):
    return torch.sigmoid(fakes.random(count, HEIGHT, WIDTH, 3, seed=seed))


def sound():
    return {"waveform": fakes.random(1, 2, 2 * fakes.RATE, seed="sound", scale=0.1), "sample_rate": fakes.RATE}


def video():
    from comfy_api.latest import InputImpl, Types

    parts = {"images": pictures(FRAMES, "video"), "audio": sound(), "frame_rate": Fraction(16)}
    return InputImpl.VideoFromComponents(Types.VideoComponents(**parts))


def half():
    mask = torch.zeros(1, HEIGHT, WIDTH)
    mask[..., WIDTH // 2 :] = 1
    return mask


def track():
    """As SAM 3 follows one object: the right half of each frame."""
    from comfy.ldm.sam3.tracker import pack_masks

    masks = half().expand(FRAMES, 1, HEIGHT, WIDTH).contiguous()
    return {"packed_masks": pack_masks(masks), "orig_size": (HEIGHT, WIDTH), "n_frames": FRAMES}


def vae(name):
    return fakes.AudioVAE(name) if "audio" in name.lower() else fakes.VAE(name)


# Type of an output -> what stands for it, by the name of the file.
MADE = {
    "MODEL": lambda name: models.maker(name)(),
    "CLIP": fakes.CLIP,
    "VAE": vae,
    "CLIP_VISION": lambda name: fakes.Vision(),
    "AUDIO_ENCODER": fakes.AudioEncoder,
    "LATENT_UPSCALE_MODEL": lambda name: fakes.Upscaler(),
    "IMAGE": lambda name: pictures(seed=name),
    "MASK": lambda name: half(),
    "AUDIO": lambda name: sound(),
    "VIDEO": lambda name: video(),
    "STRING": lambda name: "text",
    "SAM3_TRACK_DATA": lambda name: track(),
}


class Made:
    """Gives for each of `types` (with spaces between) what stands for it; None for a type of its own."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "make", ("*",) * 8

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"types": ("STRING", {}), "name": ("STRING", {})}}

    def make(self, types, name):
        return tuple(MADE.get(kind, lambda name: None)(name) for kind in types.split())


class Upsample:
    """LTXVLatentUpsampler with an upscaler that doubles."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "double", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"samples": ("LATENT",)}}

    def double(self, samples, **_):
        latent = samples["samples"]
        if getattr(latent, "is_nested", False):
            latent = latent.unbind()[0]
        kept = {key: value for key, value in samples.items() if key != "noise_mask"}
        return ({**kept, "samples": latent.repeat_interleave(2, -1).repeat_interleave(2, -2)},)


class WarpedNoise:
    """VOIDWarpedNoise without optical flow."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "make", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {}), "height": ("INT", {}), "length": ("INT", {})}}

    def make(self, width, height, length, **_):
        frames = ((length - 1) // 4 + 1) // 2 * 2
        return ({"samples": fakes.random(1, 16, frames, height // 8, width // 8, seed="warped")},)


class Dance:
    """WanDancerEncodeAudio without torchaudio: its 35 features of each frame, random."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "make", ("AUDIO_ENCODER_OUTPUT", "STRING")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"video_frames": ("INT", {}), "audio_inject_scale": ("FLOAT", {})}}

    def make(self, video_frames, audio_inject_scale, **_):
        feature = fakes.random(1, video_frames, 35, seed="dance", scale=0.1)
        return {"audio_feature": feature, "fps": 30.0, "audio_inject_scale": audio_inject_scale}, ""


class Watch:
    """Counts the attention calls of a model."""

    CATEGORY, FUNCTION, RETURN_TYPES = "stand-in", "watch", ("MODEL",)
    calls = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def watch(self, model):
        watched = model.clone()
        options = dict(watched.model_options["transformer_options"])
        before = options.get("optimized_attention_override")

        def look(func, *args, **kwargs):
            Watch.calls += 1
            return before(func, *args, **kwargs) if before else func(*args, **kwargs)

        watched.model_options["transformer_options"] = {**options, "optimized_attention_override": look}
        return (watched,)


class Keep:
    """Keeps the latent of a sampler under `tag`."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "stand-in", "keep", (), True
    kept: dict = {}

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "tag": ("STRING", {})}}

    def keep(self, latent, tag):
        parts = latent["samples"]
        Keep.kept[tag] = list(parts.unbind()) if getattr(parts, "is_nested", False) else [parts]
        return {}


NODES = {f"StandIn{kind.__name__}": kind for kind in (Made, Upsample, WarpedNoise, Dance, Watch, Keep)}
