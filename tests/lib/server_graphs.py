"""Graphs that a server is sent."""

from __future__ import annotations

from tiny import files

DEMO = "video-attention-demo.safetensors"
# name -> (loader, its file, conditioning, latent, (T, Y, X) in tokens).
MODELS = {
    "demo": ("UNETLoader", DEMO, None, ("EmptyLTXVLatentVideo", (192, 160, 33)), (5, 5, 6)),
    "LTX-2.3": ("CheckpointLoaderSimple", files.LTX, "ltx", ("EmptyLTXVLatentVideo", (192, 160, 33)), (5, 5, 6)),
    "Wan 2.2": ("UNETLoader", files.WAN_EXPERTS[0], "wan", ("EmptyHunyuanLatentVideo", (96, 80, 17)), (5, 5, 6)),
    "HunyuanVideo 1.5": (
        "UNETLoader",
        files.HUNYUAN,
        "hunyuan",
        ("EmptyHunyuanVideo15Latent", (96, 80, 17)),
        (5, 5, 6),
    ),
}


def loaded(loader: str, file: str, text: str | None) -> dict:
    """Loader "1", conditioning "2"."""
    widgets = {"unet_name": file, "weight_dtype": "default"} if loader == "UNETLoader" else {"ckpt_name": file}
    prompt = {"colour": "red", "shape": "disc", "direction": "right"}
    said = {"class_type": "VideoAttentionDemoPrompt", "inputs": prompt}
    if text:
        said = {"class_type": "StandInText", "inputs": {"text": "a disc", "family": text}}
    return {"1": {"class_type": loader, "inputs": widgets}, "2": said}
