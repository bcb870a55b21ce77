"""Makes an expanded workflow small and furnished: few frames of few pixels, stand-ins for loaders and media.

Steps, samplers, schedulers, guiders, cfg, patches of the model, switches and stages stay the workflow's own. LoRAs are
left out: there is no file of one.
"""

from __future__ import annotations

import re

from . import models
from .collection import SAMPLERS

SMALLER, STEP, LEAST, FRAMES, LATENTS, SECONDS = 6, 32, 64, 17, 4, 1
# The name of a loader's file is the first of these inputs.
FILES = (
    "unet_name", "ckpt_name", "clip_name", "clip_name1", "text_encoder", "vae_name", "audio_encoder_name", "type",
    "image", "file", "audio",
)  # fmt: skip
FILED = {
    "UNETLoader", "CheckpointLoaderSimple", "ImageOnlyCheckpointLoader", "CLIPLoader", "DualCLIPLoader", "VAELoader",
    "LTXAVTextEncoderLoader", "LTXVAudioVAELoader", "CLIPVisionLoader", "AudioEncoderLoader",
    "LatentUpscaleModelLoader", "OpticalFlowLoader", "LoadImage", "LoadVideo", "LoadAudio", "RecordAudio",
}  # fmt: skip
# Models that look at pictures or write text, and nodes of an API, which give text, a picture or sound.
ELSEWHERE = re.compile("SAM3_|SDPose|RTDETR|MoGe|LoadMoGe|TextGenerate|Gemini|ElevenLabs")
OTHERS = {
    "LTXVLatentUpsampler": "StandInUpsample", "VOIDWarpedNoise": "StandInWarpedNoise",
    "WanDancerEncodeAudio": "StandInDance",
}  # fmt: skip
PASSED = {"LoraLoaderModelOnly": ("model",), "LoraLoader": ("model", "clip"), "Video Slice": ("video",)}
LENGTHS = {"length", "num_frames", "frames", "batch_size", "amount"}
PIXELS = {"width", "height", "target_width", "target_height", "shorter_size", "longer_size", "largest_size"}


def small(prompt: dict) -> dict:
    """The prompt in small, what no sampler needs left out."""
    made = {key: _node(node) for key, node in prompt.items()}
    made = {key: {**node, "inputs": _past(prompt, node["inputs"])} for key, node in made.items()}
    return upstream(made, samplers(made))


def samplers(prompt: dict) -> list[str]:
    return [key for key, node in prompt.items() if node["class_type"] in SAMPLERS]


def upstream(prompt: dict, ends: list[str]) -> dict:
    """What these nodes need, themselves too."""
    needed, left = set(), list(ends)
    while left:
        key = left.pop()
        if key in needed or key not in prompt:
            continue
        needed.add(key)
        left += [value[0] for value in prompt[key]["inputs"].values() if is_link(value)]
    return {key: node for key, node in prompt.items() if key in needed}


def is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def lacking(prompt: dict, known) -> str | None:
    """Why this prompt cannot run; None when it can. known: the classes that there are."""
    classes = sorted({node["class_type"] for node in prompt.values()} - set(known))
    if classes:
        return f"not in this ComfyUI: {', '.join(classes)}"
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "ModelPatchLoader":
            return f"no tiny model for {inputs['name']}"
        if "MODEL" in str(inputs.get("types", "")).split() and models.maker(inputs["name"]) is None:
            return f"no tiny model for {inputs['name']}"
    return None


def _past(prompt: dict, inputs: dict) -> dict:
    """The inputs, with links past the nodes that are left out."""

    def follow(value):
        while is_link(value) and prompt[value[0]]["class_type"] in PASSED:
            value = prompt[value[0]]["inputs"].get(PASSED[prompt[value[0]]["class_type"]][value[1]])
        return value

    return {name: follow(value) for name, value in inputs.items()}


def _node(node: dict) -> dict:
    kind, inputs = node["class_type"], node["inputs"]
    if kind in FILED or ELSEWHERE.search(kind):
        file = " ".join(str(inputs[name]) for name in FILES if name in inputs)
        if kind == "LTXVAudioVAELoader":  # its file is the checkpoint
            file += " audio"
        types = " ".join(node["outputs"])
        return {**node, "class_type": "StandInMade", "inputs": {"types": types, "name": file}}
    inputs = {name: value if is_link(value) else _value(node, name, value) for name, value in inputs.items()}
    return {**node, "class_type": OTHERS.get(kind, kind), "inputs": inputs}


def _value(node: dict, name: str, value):
    """A number of pixels, frames or seconds, smaller; everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    named = name.rsplit(".", 1)[-1].lower()
    if node["class_type"] in ("PrimitiveInt", "PrimitiveFloat"):
        named = _meant(node["title"].lower())
    if named in PIXELS and value >= LEAST:
        return max(LEAST, int(value) // SMALLER // STEP * STEP)
    if named == "megapixels":
        return value / SMALLER**2
    if named == "video_frames":  # of SVD: of pictures, not of latents
        return min(value, LATENTS)
    if named in LENGTHS and value > FRAMES:
        return FRAMES
    if named == "seconds":
        return min(value, SECONDS)
    if named == "frame_idx" and value > 8:
        return 8
    return value


def _meant(title: str) -> str:
    """What a number with this title is, by the name that an input of the kind has."""
    if "duration" in title or "second" in title:
        return "seconds"
    if "frame count" in title or "length" in title:
        return "length"
    return "width" if "width" in title else "height" if "height" in title else ""
