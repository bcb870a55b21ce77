"""The nodes. This folder alone imports ComfyUI."""

from pathlib import Path

import folder_paths
from comfy_api.latest import ComfyExtension, io

from . import (
    backend,
    benchmark,
    boost,
    demo,
    forecast,
    guidance,
    info,
    load,
    long_sampler,
    maps,
    metrics,
    pattern,
    plan,
    report,
    reuse,
    sampler,
    schedule,
    several_gpus,
    temporal_blocks,
    two_stage_sampler,
    verify,
)

TOPICS = (
    boost,
    backend,
    load,
    pattern,
    guidance,
    forecast,
    several_gpus,
    reuse,
    temporal_blocks,
    report,
    info,
    benchmark,
    maps,
    metrics,
    plan,
    verify,
    sampler,
    two_stage_sampler,
    long_sampler,
    schedule,
    demo,
)
NODES: tuple[type[io.ComfyNode], ...] = tuple(node for topic in TOPICS for node in topic.NODES)

MODELS = Path(__file__).resolve().parent.parent / "models" / "diffusion_models"


class VideoAttention(ComfyExtension):
    """Registers the pack at ComfyUI."""

    async def on_load(self) -> None:
        """Adds the folder of the demo model."""
        # The demo model travels with the pack: Load Diffusion Model lists it beside the user's own.
        folder_paths.add_model_folder_path("diffusion_models", str(MODELS))

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Lists the node classes."""
        return list(NODES)


async def comfy_entrypoint() -> VideoAttention:
    """Makes the extension that ComfyUI loads."""
    return VideoAttention()
