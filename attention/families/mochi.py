"""Mochi 1 (https://github.com/genmoai/mochi): each block attends over the video's tokens and then the prompt's."""

from ..core.reason import Reason
from ..core.site import SELF
from ..core.tokens import Span, Tokens
from .facts import BlockStream, TrainedClips, always
from .spec import Family, Variant

# What the model takes when no attention mask tells how many tokens of the prompt are real.
PROMPT_TOKENS = 256


def sites(model):
    """Yield the self-attention of each block."""
    for index, block in enumerate(model.blocks):
        yield block.attn, SELF, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call. The prompt is cropped to its real tokens.

    x: (B, C, T, Y, X) latents, Y and X whole patches.
    """
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    frames, height, width = x.shape[2:]
    text = min(inputs.get("num_tokens", PROMPT_TOKENS), inputs["context"].shape[1])
    grid = (frames, height // model.patch_size, width // model.patch_size)
    return Tokens(grid, suffix=(Span("text", text),))


MOCHI = Family(
    name="Mochi",
    models=("AsymmDiTJoint",),
    variants=(Variant("Mochi 1", (SELF,)),),
    sites=sites,
    tokens=tokens,
    unreachable=("pooling of the prompt",),
    beside="_y$",
    clips=always(TrainedClips(163, 30.0, ratio=6)),
    stream=BlockStream(("blocks",), "hidden_size_x"),
    rotary=Reason("its frequencies are learned and mix time and place"),
)
