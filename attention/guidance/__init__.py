"""Guidance that needs no training: each names its paper, the calls it changes and what it costs."""

from . import nag, pag, riflex, stg
from .spec import Guidance

ENHANCE = "Enhance-A-Video"


TABLE = (
    Guidance(
        stg.NAME,
        "https://arxiv.org/abs/2411.18664",
        "self-attention of the chosen blocks, in an extra pass alone",
        "one model call",
        "scale 0",
    ),
    Guidance(
        pag.NAME,
        "https://arxiv.org/abs/2403.17377",
        "self-attention of the chosen blocks, in an extra pass alone",
        "one model call",
        "scale 0",
    ),
    Guidance(
        nag.NAME,
        "https://arxiv.org/abs/2505.21179",
        "attention to the prompt, for the positive prompt alone",
        "one attention call for each call to the prompt, no model call",
        "scale 1 or alpha 0",
    ),
    Guidance(
        ENHANCE,
        "https://arxiv.org/abs/2502.07508",
        "output of self-attention on the video's own tokens",
        "one small attention over time in each call, no model call",
        "weight 0",
    ),
    Guidance(
        riflex.NAME,
        "https://arxiv.org/abs/2502.15894",
        "one frequency of the position over time, where the clip is longer than the trained one",
        "nothing",
        "a clip no longer than trained_frames",
    ),
)


def find(name: str) -> Guidance:
    """Find the row of that name."""
    return next(row for row in TABLE if row.name == name)
