"""A latent's parts, and a step that spoilt it."""

from __future__ import annotations

import comfy.nested_tensor
import torch


class NotFinite(RuntimeError):
    """A step gave NaN or Inf. args[0]: a sentence's beginning that says which."""

    def __str__(self):
        return f"{self.args[0]}. Try another kernel, or its guard at `every call`, in Video Attention Backend."


def parts_of(samples) -> list[torch.Tensor]:
    """Gives the tensors of a latent: the video, then the sound if there is any."""
    return list(samples.unbind()) if getattr(samples, "is_nested", False) else [samples]


def join_parts(parts: list[torch.Tensor]):
    """Makes the latent of these parts: the reverse of parts_of."""
    return comfy.nested_tensor.NestedTensor(parts) if len(parts) > 1 else parts[0]
