"""Trained temporal blocks behind the blocks of a model: their files, whether they fit, and their hooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.ops
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from ...attention import families
from ...attention.blocks import TemporalBlocks, streams, weights
from ...attention.blocks.temporal import IN_BATCH
from ...attention.core.reason import Reason
from ...attention.core.site import SITE, TEMPORAL, AttentionSite
from ...attention.routing import compiled_op, rules
from ...attention.routing.step_context import CONTEXT, IDLE
from . import hooks, model_family, site_hooks, site_tags
from .hooks import Handle

KEY = "video_attention.blocks"
TITLE = "Video Attention Temporal Blocks"

FOLDER = "video_attention_blocks"
# The user's own folder, and the one that comes with the pack.
for parent in (Path(folder_paths.models_dir), Path(__file__).resolve().parents[2] / "models"):
    folder_paths.add_model_folder_path(FOLDER, str(parent / FOLDER))


@dataclass(frozen=True)
class Graft:
    """The blocks that one node added.

    key: of the additional model that holds them.
    chosen: the numbers of the model's blocks that they stand behind.
    strength: their change is multiplied by it.
    """

    key: str
    chosen: tuple[int, ...]
    strength: float


def list_files() -> list[str]:
    """Lists the files of models/video_attention_blocks, the pack's own among them."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")]


def find_file(name: str) -> Path:
    """Finds the file of that name. Raises FileNotFoundError with the folder's name."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise FileNotFoundError(f"blocks_name: there is no file {name!r} in models/{FOLDER}.")
    return Path(path)


def load_patcher(path: Path) -> ModelPatcher:
    """Loads the blocks of a file, under ComfyUI's memory management. Raises ValueError for a file of other blocks."""
    blocks = weights.load(path, comfy.ops.manual_cast)
    if not isinstance(blocks, TemporalBlocks):
        raise ValueError(f"{path.name} holds {type(blocks).__name__}, not the temporal blocks of a model.")
    device = comfy.model_management.get_torch_device()
    patcher = ModelPatcher(blocks, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    patcher.cached_patcher_init = (load_patcher, (path,))
    return patcher


def add_blocks(model, path: Path, spans: tuple = (), strength: float = 1.0):
    """Adds the blocks of a file to a clone of the MODEL `model`.

    spans: only those behind these of the model's blocks; () means all.
    strength: what the blocks add is multiplied by it.
    Returns the clone and the numbers of the blocks chosen. Raises ValueError with one sentence when they do not fit.
    """
    grafted = load_patcher(path)
    config = grafted.model.config
    check_fit(model, config, path.name)
    covered = rules.Rule(blocks=spans)
    chosen = tuple(n for n in config.blocks if covered.covers(AttentionSite("", TEMPORAL, n)))
    if not chosen:
        raise ValueError(
            f"blocks: none of them has a temporal block in {path.name}, which has {listed(config.blocks)}."
        )
    patched = model.clone()
    grafts = patched.get_attachment(KEY) or ()
    graft = Graft(f"{KEY}.{len(grafts)}", chosen, strength)
    patched.set_additional_models(graft.key, [grafted])
    patched.set_attachments(KEY, (*grafts, graft))
    hooks.during_runs(patched, KEY, publish)
    return patched, chosen


def check_fit(model, config, name: str) -> None:
    """Raises ValueError with one sentence unless added blocks fit the MODEL.

    config: TemporalConfig of the blocks.
    name: of their file.
    """
    network, family = model.model.diffusion_model, model_family.row_of(model)
    stream = family.stream
    if isinstance(stream, Reason):
        known = ", ".join(row.name for row in families.TABLE if not isinstance(row.stream, Reason))
        what, why = family.name or type(network).__name__, family.unsupported or stream
        raise ValueError(f"model: no blocks can be added to {what}. They can to {known}. {what}: {why}.")
    channels, count = stream.channels(network), len(stream.blocks(network))
    if config.family and config.family != family.name:
        raise ValueError(f"{name} was trained for {config.family}, this model is {family.name}.")
    if config.channels != channels:
        raise ValueError(f"{name} has blocks of {config.channels} channels, this model's tokens have {channels}.")
    if max(config.blocks) >= count:
        raise ValueError(f"{name} has blocks behind {listed(config.blocks)}, this model has blocks 0 to {count - 1}.")


def publish(patcher) -> Iterator[Handle]:
    """Hooks a model, which lays its tokens out, and each chosen block."""
    network, family = patcher.model.diffusion_model, model_family.family_of(patcher)
    stream = family.stream
    modules = stream.blocks(network)
    yield site_hooks.lay_out(network, family)
    for graft in patcher.get_attachment(KEY):
        # A clone for another GPU has additional models of its own.
        (grafted,) = patcher.get_additional_models_with_key(graft.key)
        for index in graft.chosen:
            site = AttentionSite(family.name, TEMPORAL, index)
            hook = _behind(grafted.model, graft, stream.part, site, modules[index])
            yield hooks.hook_behind(modules[index], hook)


def _behind(blocks: TemporalBlocks, graft: Graft, part: int, site: AttentionSite, module: torch.nn.Module):
    position = site_tags.position(module.forward)

    @compiled_op.eagerly
    def hook(module, args, kwargs, output):
        options = site_tags.options_of(position, args, kwargs)
        x = output[part] if isinstance(output, tuple) else output
        video_span, groups = _where(options or {}, blocks.config.frames, x, site)
        attend = _attend({**options, SITE: site})

        def change(video, grid):
            return blocks(site.block, video, grid, attend) * graft.strength

        x = streams.add_change(x, video_span, groups, change)
        return (*output[:part], x, *output[part + 1 :]) if isinstance(output, tuple) else x

    return hook


def _where(options: dict, frames: str, x, site: AttentionSite):
    """Finds the video's place in x and the number of videos that share the batch.

    frames: of the blocks' TemporalConfig, how they take the clip's frames.
    Raises ValueError when it cannot be told.
    """
    video_span = streams.span_in_block(options.get(CONTEXT, IDLE).tokens, x.flatten(1, -2).shape[1])
    if isinstance(video_span, Reason):
        raise ValueError(
            f"{TITLE}: behind block {site.block} of {site.family} the video cannot be found: {video_span}."
        )
    if frames != IN_BATCH:
        return video_span, 0
    groups = len(options.get("cond_or_uncond") or (0,))
    if video_span.grid[0] > 1 or x.shape[0] % groups:
        raise ValueError(
            f"{TITLE}: these blocks take the frames as a batch of images, this is a batch of {x.shape[0]} videos of "
            f"{video_span.grid[0]} frames."
        )
    return video_span, groups


def _attend(options: dict):
    """Gives the host's attention, so that Video Attention Backend and other overrides reach these blocks too."""

    def attend(q, k, v, mask=None):
        heads = q.shape[1]
        # Looked up late: other packs replace it. For large batches the host ignores skip_output_reshape.
        run = comfy.ldm.modules.attention.optimized_attention
        out = run(q, k, v, heads, mask=mask, skip_reshape=True, transformer_options=options)
        return out.unflatten(-1, (heads, -1)).transpose(1, 2)

    return attend


def listed(numbers) -> str:
    """Writes numbers as `0, 2, 5`."""
    return ", ".join(map(str, numbers))
