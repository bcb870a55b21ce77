"""What is known of a MODEL by its family: its blocks, and how its tokens are laid out."""

from __future__ import annotations

import torch

from ...attention.core.error_handling import error_text
from ...attention.core.tokens import Tokens
from ...attention.families import find
from ...attention.families.spec import UNKNOWN, Family


def family_of(patcher) -> Family | None:
    """Finds the family of a MODEL; None when it is no model this pack knows."""
    return find(type(patcher.model.diffusion_model).__name__)


def row_of(patcher) -> Family:
    """Finds the row of a MODEL's family; one that knows nothing for a model this pack does not know."""
    return family_of(patcher) or UNKNOWN


def blocks_of(patcher, role: str) -> int | None:
    """Counts the blocks of a MODEL that make calls of a role; None for an unknown family."""
    family = family_of(patcher)
    if family is None or family.unsupported:
        return None
    return max((block for _, r, block in family.sites(patcher.model.diffusion_model) if r == role), default=-1) + 1


def count_sites(patcher) -> int:
    """Counts the attention modules of a MODEL; 0 for an unknown family."""
    family = family_of(patcher)
    return 0 if family is None or family.unsupported else sum(1 for _ in family.sites(patcher.model.diffusion_model))


def tokens_of(family: Family, model: torch.nn.Module, x, inputs) -> Tokens:
    """Lays out the tokens of one model call. Whatever a future host passes, a layout must not cost a render.

    model: the diffusion model.
    x: latent that it is called with, or a list of latents.
    inputs: its other arguments by name.
    """
    try:
        return family.tokens(model, x, inputs)
    except Exception as error:
        return Tokens(None, unknown=f"the input could not be read ({error_text(error)})")


def tokens_of_latent(patcher, samples, prompt: dict | None = None) -> Tokens | None:
    """Lays out the tokens that a MODEL would make of a latent, as far as it needs no prompt; None if unknown.

    prompt: arguments of the model's that tell about a prompt, as prompt_shapes gives them.
    """
    family = family_of(patcher)
    if family is None:
        return None
    parts = list(samples.unbind()) if getattr(samples, "is_nested", False) else samples
    model = patcher.model.diffusion_model
    if not isinstance(parts, list) and parts.ndim == 5 and patcher.model.latent_format.latent_dimensions == 2:
        parts = parts.movedim(1, 2).flatten(0, 1)
    frames = parts.shape[0] if not isinstance(parts, list) else 1
    return tokens_of(
        family, model, parts, {"context": torch.empty(1, 0, 0), "num_video_frames": frames, **(prompt or {})}
    )


def prompt_shapes(positive) -> dict:
    """Gives the model's arguments that tell how many tokens a CONDITIONING has: of its first entry, by their shapes.

    Nothing is encoded: what a model makes more or less of on its way is not known.
    """
    text, more = positive[0]
    given = {"context": text.new_empty((1, text.shape[1], 0), device="meta")}
    references = [one for one in more.get("reference_latents") or () if torch.is_tensor(one)]
    if references:
        given |= {"ref_latents": references, "reference_latent": references[-1]}
    return given | {name: more[name] for name in ("keyframe_idxs", "generated_keyframes") if name in more}


def temporal_ratio(patcher) -> int:
    """Counts the pictures in a latent frame of a MODEL behind the first; 1 where its latents are no clip's."""
    return getattr(patcher.model.latent_format, "temporal_downscale_ratio", 1)
