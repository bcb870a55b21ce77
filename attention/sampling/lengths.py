"""How long a clip each model was trained for: the window that a longer one is sampled in.

Pictures and rates are those of the models' own code and cards; where ComfyUI's node for the model has a length as its
default, it is the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Trained:
    """pictures: None for models of any rate, which know a time; rate: pictures a second."""

    pictures: int | None
    rate: float
    seconds: float = 5.0

    def count(self, rate: float) -> float:
        """Pictures of a window at `rate` pictures a second."""
        return self.pictures or self.seconds * rate


OTHERS = Trained(None, 24.0)
# By the family's name.
TRAINED = {
    "Wan": Trained(81, 16.0),
    "Wan causal": Trained(81, 16.0),
    "HunyuanVideo": Trained(129, 24.0),
    "Cosmos": Trained(121, 24.0),
    "Cosmos Predict2": Trained(93, 16.0),
    "Mochi": Trained(163, 30.0),
    "CogVideoX": Trained(49, 8.0),
    "Kandinsky 5": Trained(121, 24.0),
    "MiniMax-H3": Trained(124, 24.0),
    "LTXV": OTHERS,
    "LTX-2": OTHERS,
}
# By the diffusion model's class, where that tells more.
OF_MODEL = {
    "HumoWanModel": Trained(97, 25.0),
    "WanModel_S2V": Trained(77, 16.0),
    "AnimateWanModel": Trained(77, 30.0),
    "WanAnimate2Model": Trained(81, 16.0),
    "WanDancerModel": Trained(149, 30.0),
}
# By family and channels of the latent: Wan 2.2 5B, HunyuanVideo 1.5.
OF_CHANNELS = {("Wan", 48): Trained(121, 24.0), ("HunyuanVideo", 32): Trained(121, 24.0)}


def trained(family: str | None, model: torch.nn.Module, channels: int) -> Trained:
    """What a diffusion model was trained for. channels: of its latent; OTHERS for a model of no known family."""
    if family == "CogVideoX" and getattr(model, "patch_size_t", None):
        return Trained(81, 16.0)  # CogVideoX 1.5
    return OF_MODEL.get(type(model).__name__) or OF_CHANNELS.get((family, channels)) or TRAINED.get(family, OTHERS)


def latent_frames(pictures: float, ratio: int) -> int:
    """Latent frames of so many pictures, the first frame a single one. ratio: pictures that one of the others holds."""
    return 1 + max(0, round((pictures - 1) / ratio))


def pictures_of(frames: int, ratio: int) -> int:
    """The reverse of latent_frames."""
    return 1 + max(0, frames - 1) * ratio
