"""RIFLEx at the host: what turns positions into rotations gives others in clips longer than the trained ones."""

from __future__ import annotations

import torch

from ...attention.core.identity import Itself
from ...attention.guidance import riflex
from ...attention.routing import compiled_op
from . import model_family, site_hooks
from .guidance_pass import detach, keep, unhook

KEY = "video_attention.riflex"


def lengthening(model, frequency: int, trained_frames: int) -> tuple[int, int, str]:
    """(frequency, latent frames in training, a line about both) for the widgets, 0: as known. ValueError if refused."""
    family = model_family.family_of(model)
    name = type(model.model.diffusion_model).__name__ if family is None else family.name
    refused = riflex.refuses(name)
    if refused is not None:
        raise ValueError(f"model: {riflex.NAME} cannot lengthen the clips of {name}: {refused}. Bypass this node.")
    known = riflex.KNOWN[name]
    ratio = getattr(model.model.latent_format, "temporal_downscale_ratio", 1)
    patch = _patch_of(model.model.diffusion_model)
    frames = -(-((trained_frames - 1) // ratio + 1) // patch) if trained_frames else _trained(model, known.frames)
    chosen = frequency or known.frequency
    available = _frequencies(model.model.diffusion_model)
    if chosen > available:
        raise ValueError(f"frequency: {chosen} is more than the {available} that {name} has over time.")
    about = ((frames * patch) - 1) * ratio + 1
    text = f"{riflex.NAME}: frequency {chosen} of {available}, in clips of more than {about} frames. No extra cost."
    return chosen, frames, text


def _patch_of(model) -> int:
    """Latent frames in one token."""
    if hasattr(model, "patch_size_t"):
        return model.patch_size_t or 1
    return model.patch_size[0] if len(model.patch_size) == 3 else 1


def _trained(model, frames: int) -> int:
    """Tokens over time in training: the family's, or those of its later models, told by what sets these apart."""
    inner = model.model.diffusion_model
    if getattr(inner, "in_dim", None) == 48 or getattr(inner, "vision_in", None) is not None:
        return 31  # Wan 2.2 5B and HunyuanVideo 1.5: 121 frames
    return 11 if getattr(inner, "patch_size_t", None) else frames  # CogVideoX 1.5: 81 frames


def _frequencies(model) -> int:
    """How many frequencies over time a model turns its queries by."""
    if hasattr(model, "_get_rotary_emb"):
        return model.attention_head_dim // 4 // 2
    return embedder_of(model).axes_dim[0] // 2


def install_riflex(model, frequency: int, frames: int):
    """A clone of `model` whose clips of more than `frames` latent frames turn one frequency slower."""
    patched = model.clone()
    detach(patched, KEY)
    site_hooks.in_runs(patched, KEY, Slowed(frequency, frames), unhook)
    return patched


class Slowed(Itself):
    """ON_PRE_RUN: the family's embedder of positions gives what RIFLEx makes of it."""

    def __init__(self, frequency: int, trained: int):
        self.frequency, self.trained = frequency, trained

    def __call__(self, patcher) -> None:
        model, family = patcher.model.diffusion_model, model_family.family_of(patcher)
        if hasattr(model, "_get_rotary_emb"):
            table = self._turned_table(model._get_rotary_emb)
            keep(model, KEY, site_hooks.Replaced(model, "_get_rotary_emb", table))
            return
        length = [0]  # latent frames of the call that is running

        @compiled_op.eagerly
        def measure(module, args, kwargs):
            tokens = model_family.tokens_of(family, module, args[0], kwargs) if args else None
            length[0] = tokens.grid[0] if tokens is not None and tokens.grid else 0

        def turn(module, args, out):
            if length[0] <= self.trained:
                return None
            # (B, 1, L, F, 2, 2) from (B, L, axes)
            return riflex.turn(out, args[0][..., 0].unsqueeze(1), self.frequency, length[0])

        measuring = model.register_forward_pre_hook(measure, with_kwargs=True)
        keep(model, KEY, measuring, embedder_of(model).register_forward_hook(turn))

    def _turned_table(self, original):
        """CogVideoX's tables (T*Y*X, F) of cosines and sines, time's frequencies first, T in the outer loop."""

        @compiled_op.eagerly
        def table(h, w, t, device):
            cos, sin = original(h, w, t, device)
            if t <= self.trained:
                return cos, sin
            angle = torch.arange(t, device=cos.device).repeat_interleave(h * w) * riflex.slowed(t)
            cos, sin = cos.clone(), sin.clone()
            cos[:, self.frequency - 1], sin[:, self.frequency - 1] = angle.cos(), angle.sin()
            return cos, sin

        return table


def embedder_of(model) -> torch.nn.Module:
    """What turns positions into rotations, time first."""
    return model.rope_embedder if hasattr(model, "rope_embedder") else model.pe_embedder
