"""A prompt's conditions in windows: each cut as the model's family says, with an identity of its own."""

from __future__ import annotations

import uuid

import comfy.sampler_helpers
import torch

from ...attention import families
from ...attention.families import conditions
from ...attention.families.spec import Family, cut_of
from ..host import model_family
from ..host.latent import parts_of
from .sampling_job import Job

# In place of a condition that a window does not have; the dict cannot lose a key while the host walks over it.
GONE = object()


def lead(job: Job) -> int:
    """Counts the latent frames in front of the clip that are references, and belong into every window."""
    row, network = model_family.row_of(job.model), job.model.model.diffusion_model
    return max(row.references(network, options) for options in job.prompts or [{}])


def cutter(row: Family, class_name: str, notes: list):
    """Makes the host's callback for a condition in a window; what gives None leaves it to the host.

    row: of the model's family.
    class_name: of the diffusion model.
    notes: gets a sentence about a condition that stands in no table and may be one of frames.
    """

    def cut(key, value, window, x, *_):
        frames, total = _frames(window), x.shape[2] if x.ndim == 5 else 0
        how = cut_of(row, class_name, key)
        if how is None:
            _tell(key, value, total, notes)
        if how in (None, conditions.HOST) or not total or not hasattr(value, "cond"):
            return None
        found = how.cut(value.cond, frames, total)
        if found is value.cond:
            return value
        return GONE if found is None else value._copy_with(found)

    return cut


def _frames(window) -> list[int]:
    """Lists the latent frames that a model call has, with the one that ComfyUI puts before a later window."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([anchor] if anchor is not None and anchor >= 0 else []), *window.index_list]


def _tell(key: str, value, total: int, notes: list) -> None:
    given = getattr(value, "cond", value)
    if not conditions.is_timelike(given, total):
        return
    size = tuple(given.shape)
    how = "cut with the frames" if given.ndim > 2 and size[2] == total else "the same in every window"
    line = f"{key} {size} is no condition that this pack knows: it is {how}, which may be wrong for this model."
    if line not in notes:
        notes.append(line)


def of_window(conds, window):
    """Picks the conditions of one window, without those that it does not have.

    Each gets an identity of its own: a cache keeps what it knows of a prompt by that, and windows differ.
    """
    if conds is None or window is None:
        return conds
    name, found = f"{window.index_list[0]} {len(window.index_list)} {window.index_list[-1]}", []
    for cond in conds:
        own = {"uuid": uuid.uuid5(cond["uuid"], name)} if isinstance(cond.get("uuid"), uuid.UUID) else {}
        kept = {key: value for key, value in cond.get("model_conds", {}).items() if value is not GONE}
        found.append({**cond, "model_conds": kept, **own})
    return found


def keeping(job: Job) -> Job:
    """Prepares a job for a noise mask of this pack's own.

    Models that would read it as the mask of a start image get the mask that was there, or one that gives nothing.
    """
    names = tuple(kind.__name__ for kind in type(job.model.model).__mro__)
    if not any(row.start_mask(names) for row in families.TABLE):
        return job
    video, mask = parts_of(job.latent["samples"])[0], job.latent.get("noise_mask")
    shape = (video.shape[0], 1, *video.shape[2:])
    given = (
        comfy.sampler_helpers.prepare_mask(parts_of(mask)[0], video.shape, "cpu")[:, :1]
        if mask is not None
        else torch.ones(shape)
    )
    return job.with_options(lambda options: {"concat_mask": given, **options})
