"""Reference images of Wan's relatives that stand in the latent itself, as frames in front of the clip."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from ..core.tokens import Span, Tokens

# Their first latent frame is the reference image.
FIRST = ("AnimateWanModel", "WanAnimate2Model")
# Channels of VACE's control in front of those of its mask.
CONTROL = 32
# Of model calls whose control was looked at.
MOST = 256
_COUNTS: dict[tuple, int] = {}


def references(model, options) -> int:
    """Count the reference image of Animate, or those that VACE has in its control video.

    options: of a prompt, as the host's nodes set them.
    """
    if type(model).__name__ in FIRST:
        return 1
    controls = options.get("vace_frames") or []
    masks = options.get("vace_mask") or [None] * len(controls)
    return max((reference_frames(*pair) for pair in zip(controls, masks, strict=False)), default=0)


def reference_frames(frames: torch.Tensor, mask: torch.Tensor | None) -> int:
    """Count the latent frames at the begin of VACE's control that are references and no frames of the clip.

    A reference's second half, what is to be changed, is blank: one number a channel. A start image's is an encoded grey
    picture, never quite even.

    frames: (B, 32, T, Y, X), the control.
    mask: (B, 64, T, Y, X), 0 where the picture is given; without one nothing is a reference.
    """
    if mask is None or mask.shape[2] != frames.shape[2]:
        return 0
    given = mask.amax(dim=(0, 1, 3, 4)) == 0
    half = frames[:, frames.shape[1] // 2 :]
    blank = (half.amax(dim=(3, 4)) - half.amin(dim=(3, 4))).amax(dim=(0, 1)) == 0
    found = (given & blank).tolist()
    return found.index(False) if False in found else 0


def apart(model, found: Tokens, inputs) -> Tokens:
    """Lay out with the references of the latent's first frames in front of the video, not as frames of it.

    found: as if all were the clip's.
    inputs: of the model call.
    """
    count = 1 if type(model).__name__ in FIRST else _of_control(inputs)
    if found.grid is None or not 0 < count < found.grid[0]:
        return found
    frames, *sides = found.grid
    front = Span("reference", count * prod(sides))
    return replace(found, grid=(frames - count, *sides), prefix=(*found.prefix, front))


def _of_control(inputs) -> int:
    """Count the references in VACE's control of a model call: its values tell, read once for the same prompts."""
    context = inputs.get("vace_context")
    if getattr(context, "ndim", 0) != 6 or context.device.type == "meta":
        return 0
    options = inputs.get("transformer_options") or {}
    window = getattr(options.get("context_window"), "index_list", None)
    key = (tuple(options.get("uuids") or ()), tuple(window or ()), tuple(context.shape))
    if not key[0]:
        return _counted(context)
    # Threads of several GPUs share the counts, and any of them may clear them.
    count = _COUNTS.get(key)
    if count is None:
        # Prompts have new names in each run.
        if len(_COUNTS) >= MOST:
            _COUNTS.clear()
        count = _COUNTS[key] = _counted(context)
    return count


def _counted(context: torch.Tensor) -> int:
    """Count the references in (B, controls, 96, T, Y, X): of each control its channels, then its mask's."""
    return max((reference_frames(one[:, :CONTROL], one[:, CONTROL:]) for one in context.unbind(1)), default=0)
