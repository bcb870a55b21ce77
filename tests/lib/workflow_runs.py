"""Turns a workflow into one that runs in seconds: small sizes, few steps, stand-ins for what has no small form."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import client
import host
import newer_nodes
import write_workflows
from tiny import files

WORKFLOWS = {file.stem: file for file in sorted((host.ROOT / "workflows").glob("*.json"))}
# Loaders of text encoders -> what StandInText makes in their place; CLIPLoader's: by its `type`.
TEXT_ENCODERS = {"CLIPLoader": None, "DualCLIPLoader": "hunyuan", "LTXAVTextEncoderLoader": "ltx"}
CLIP_TYPES = {"wan": "wan", "ltxv": "ltx", "minimax": "minimax"}
NARROW = {
    "wan2.2_vae.safetensors",
    "hunyuanvideo15_vae_fp16.safetensors",
    "minimax_h3_video_vae_int8_convrot.safetensors",
    "minimax_h3_audio_vae_fp32.safetensors",
}
# A fifth of every width and height, in the steps of LTX: what is twice as large stays so.
SMALLER, STEP, LEAST = 5, 32, 64
STEPS = 4
LENGTHS = {
    "EmptyLTXVLatentVideo": 17, "EmptyHunyuanLatentVideo": 9, "WanImageToVideo": 9, "PrimitiveInt": 17,
    "MiniMaxH3ImageToVideo": 22, "MiniMaxH3ReferenceToVideo": 22, "WanAnimate2ToVideo": 9,
}  # fmt: skip
# Bypassed in the file, with a note that says how to switch it on.
SWITCHED_ON = {"VideoAttentionNormalizedAttentionGuidance"}
QUICK = {
    "ManualSigmas": {"sigmas": "1.0, 0.7, 0.0"},
    "VideoAttentionLongSampler": {"unit": "latent frames", "window": 2.0, "overlap": -1.0},
    "VideoAttentionPattern": {"min_tokens": 0},
    # One of three latent frames.
    "VideoAttentionMaps": {"frame": 1},
    "VideoAttentionCalibrate": {"candidates": "patterns", "block_groups": 1, "step_ranges": 1, "steps": 2},
}


def load(name: str) -> dict:
    return json.loads(WORKFLOWS[name].read_text())


def lacking(name: str, info: dict) -> str:
    """Why a workflow cannot run on this ComfyUI; empty where it can. info: as it tells of its nodes."""
    workflow = load(name)
    nodes = sorted({n["type"] for n in workflow["nodes"]} - info.keys() - {"MarkdownNote"})
    return "" if not nodes else f"needs ComfyUI {newer_nodes.needed_by(workflow)}: {', '.join(nodes)}"


def here(info: dict) -> list[str]:
    """The workflows that can run on this ComfyUI."""
    return [name for name in WORKFLOWS if not lacking(name, info)]


def downloads(name: str) -> list[dict]:
    """The files that a workflow's loaders ask for."""
    return [entry for node in load(name)["nodes"] for entry in node["properties"].get("models", ())]


def furnish(base: Path, comfyui: Path) -> None:
    """What the workflows need besides this pack: small models under the names of the big ones, an image, stand-ins."""
    named = {(entry["directory"], entry["name"]) for name in WORKFLOWS for entry in downloads(name)}
    files.write(base / "models", sorted(named))
    (base / "input").mkdir(exist_ok=True)
    shutil.copy(comfyui / "input" / "example.png", base / "input")
    write_workflows.write_clip(base / "input" / "example.mp4")
    shutil.copytree(Path(__file__).parent / "stand_in_pack", base / "custom_nodes" / "stand_in_pack")


@functools.cache
def _outputs(address: str, name: str, prompt: str) -> dict:
    return client.Client(address).run(json.loads(prompt))


def outputs(comfy: client.Client, name: str, info: dict) -> dict:
    """Node -> what it gave in a run at small sizes: once for each server, whoever asks."""
    return _outputs(comfy.address, name, json.dumps(small_prompt(name, info)))


def small_prompt(name: str, info: dict) -> dict:
    """The prompt of a workflow, quick to run. Loaders keep the files they name: tiny/files.py writes small ones."""
    workflow = load(name)
    for node in workflow["nodes"]:
        if node["type"] in SWITCHED_ON:
            node["mode"] = 0
    prompt = client.to_prompt(workflow, info)
    family = next((text_of(n) for n in prompt.values() if n["class_type"] in TEXT_ENCODERS), None)
    return {key: small_node(node, family) for key, node in prompt.items()}


def text_of(loader: dict) -> str:
    """The family whose conditioning stands in for that of a text encoder."""
    return TEXT_ENCODERS[loader["class_type"]] or CLIP_TYPES[loader["inputs"]["type"]]


def small_node(node: dict, family: str | None) -> dict:
    kind, inputs = node["class_type"], dict(node["inputs"])
    if kind in TEXT_ENCODERS:
        return {"class_type": "StandInClip", "inputs": {"family": family}}
    if kind == "CLIPVisionLoader":
        return {"class_type": "StandInVision", "inputs": {}}
    if kind == "CLIPTextEncode":
        return {"class_type": "StandInText", "inputs": {"text": inputs["text"], "family": family}}
    if kind == "VAELoader" and inputs["vae_name"] in NARROW:
        return {"class_type": "StandInVAE", "inputs": inputs}
    length = LENGTHS.get(kind, 9)
    wanted = {"steps": STEPS, "length": length, **QUICK.get(kind, {})}
    if kind == "PrimitiveInt":
        wanted["value"] = length
    wanted |= {k: smaller(inputs[k]) for k in ("width", "height") if isinstance(inputs.get(k), int)}
    inputs.update({k: v for k, v in wanted.items() if k in inputs and not isinstance(inputs[k], list)})
    return {"class_type": kind, "inputs": inputs}


def smaller(size: int) -> int:
    return max(LEAST, size // SMALLER // STEP * STEP)
