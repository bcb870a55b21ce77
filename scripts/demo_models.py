"""The two models that come with the pack, and what workflows and pages ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "models" / "diffusion_models"


@dataclass(frozen=True)
class DemoModel:
    """A model file and what goes with it.

    clips: the choice of Video Attention Demo VAE. prompt: the node that writes its prompt, and words for its widgets.
    side: of a picture, in pixels. length: of a clip, as the latent's node counts. steps: with which it is at its best.
    """

    file: str
    clips: str
    prompt: str
    words: dict[str, str]
    side: int
    length: int
    steps: int

    @property
    def path(self) -> Path:
        """The file, where the pack has it."""
        return FOLDER / self.file

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens over time, height and width: one for each 8 pictures of 32 x 32 pixels."""
        return -(-self.length // 8), self.side // 32, self.side // 32


SMALL = DemoModel(
    file="video-attention-demo.safetensors",
    clips="one shape",
    prompt="VideoAttentionDemoPrompt",
    words={"colour": "red", "shape": "disc", "direction": "right"},
    side=256,
    length=57,
    steps=20,
)
# With 10 steps all of its prompt is as right as with 20: models/README.md.
SCENES = DemoModel(
    file="video-attention-scenes.safetensors",
    clips="scenes",
    prompt="VideoAttentionDemoScenePrompt",
    words={
        "colour": "red", "form": "square", "direction": "right",
        "second_colour": "cyan", "second_form": "triangle", "second_direction": "up",
        "order": "first in front",
    },
    side=384,
    length=121,
    steps=10,
)  # fmt: skip
# Widgets of Video Attention Maps: a place on the first shape of SCENES, before the two meet.
ON_A_SHAPE = {"frame": 5, "x": 34.0, "y": 46.0}
