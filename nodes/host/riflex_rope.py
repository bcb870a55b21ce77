"""RIFLEx at the host: what turns positions into rotations gives others in clips longer than the trained ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from ...attention.core.identity import KeepsIdentity
from ...attention.core.reason import Reason
from ...attention.families.spec import ceil_div
from ...attention.guidance import riflex
from ...attention.routing import compiled_op
from ...attention.sampling.lengths import pictures_of
from . import hooks, model_family
from .hooks import Handle

KEY = "video_attention.riflex"


def lengthening(model, frequency: int, trained_frames: int) -> tuple[int, int, str]:
    """Finds what RIFLEx does to a MODEL.

    frequency: the widget's number of the frequency to slow down; 0 for the one known for the family.
    trained_frames: the widget's frames of the clips in training; 0 for those known.
    Returns the frequency, the tokens along time in training and a line about both. Raises ValueError with one sentence
    where the family's row refuses or the frequency is none of the model's.
    """
    row, network = model_family.row_of(model), model.model.diffusion_model
    name, rotary = row.name or type(network).__name__, row.rotary
    if isinstance(rotary, Reason):
        raise ValueError(f"model: {riflex.NAME} cannot lengthen the clips of {name}: {rotary}. Bypass this node.")
    known, patch = rotary.clips(network), rotary.patch(network)
    ratio = model_family.temporal_ratio(model)
    if trained_frames:
        known = replace(known, pictures=trained_frames, ratio=ratio)
    frames, chosen = ceil_div(known.latent_frames, patch), frequency or rotary.frequency
    available = rotary.count(network)
    if chosen > available:
        raise ValueError(f"frequency: {chosen} is more than the {available} that {name} has over time.")
    about = pictures_of(frames * patch, ratio)
    text = f"{riflex.NAME}: frequency {chosen} of {available}, in clips of more than {about} frames. No extra cost."
    return chosen, frames, text


def install_riflex(model, frequency: int, frames: int):
    """Lets a clone of `model` turn one frequency slower in clips of more than `frames` latent frames."""
    patched = model.clone()
    hooks.during_runs(patched, KEY, Slowed(frequency, frames))
    return patched


class Slowed(KeepsIdentity):
    """Lets the family's embedder of positions give what RIFLEx makes of it, during a run.

    frequency: number of the frequency that is slowed down, from 1.
    trained: tokens along time in training; longer clips are changed.
    """

    def __init__(self, frequency: int, trained: int):
        self.frequency, self.trained = frequency, trained

    def __call__(self, patcher) -> Iterator[Handle]:
        model, family = patcher.model.diffusion_model, model_family.family_of(patcher)
        rotary = family.rotary
        if rotary.table:
            table = self._turned_table(getattr(model, rotary.table))
            yield hooks.replace_method(model, rotary.table, table)
            return
        length = [0]  # latent frames of the call that is running

        @compiled_op.eagerly
        def measure(module, args, kwargs):
            tokens = model_family.tokens_of(family, module, args[0], kwargs) if args else None
            length[0] = tokens.grid[0] if tokens is not None and tokens.grid else 0

        def turn(module, args, kwargs, out):
            if length[0] <= self.trained:
                return None
            # (B, 1, L, F, 2, 2) from (B, L, axes)
            return riflex.slow_rotations(out, args[0][..., 0].unsqueeze(1), self.frequency, length[0])

        yield hooks.hook_before(model, measure)
        yield hooks.hook_behind(getattr(model, rotary.embedder), turn)

    def _turned_table(self, original):
        """Wraps the model's tables (T*Y*X, F) of cosines and sines: time's frequencies first, T in the outer loop."""

        @compiled_op.eagerly
        def table(h, w, t, device):
            cos, sin = original(h, w, t, device)
            if t <= self.trained:
                return cos, sin
            angle = torch.arange(t, device=cos.device).repeat_interleave(h * w) * riflex.slowed_frequency(t)
            cos, sin = cos.clone(), sin.clone()
            cos[:, self.frequency - 1], sin[:, self.frequency - 1] = angle.cos(), angle.sin()
            return cos, sin

        return table
