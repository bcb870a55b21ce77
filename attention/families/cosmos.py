"""NVIDIA Cosmos 1 (https://arxiv.org/abs/2501.03575), Cosmos Predict2, and Anima, an image model of the same class.

Each block attends over all tokens, then to the text. Tokens are patches of patch_temporal x patch_spatial x
patch_spatial latent pixels.
"""

from ..core.reason import Reason
from ..core.site import CROSS, SELF
from ..core.tokens import Tokens
from .facts import BlockStream, TrainedClips, always
from .spec import Family, Variant, ceil_div


def sites_of_1(model):
    """Yield each attention of Cosmos 1."""
    for index, block in enumerate(model.blocks.values()):
        for part in block.blocks:
            # The third part is the MLP.
            if hasattr(part.block, "attn"):
                yield part.block.attn, SELF if part.block.attn.is_selfattn else CROSS, index


def sites_of_2(model):
    """Yield each attention of Predict2."""
    for index, block in enumerate(model.blocks):
        yield block.self_attn, SELF, index
        yield block.cross_attn, CROSS, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, with the conditioning mask as one channel more in image-to-video models.
    """
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    t, y, x = x.shape[2:]
    side = model.patch_spatial
    return Tokens((ceil_div(t, model.patch_temporal), ceil_div(y, side), ceil_div(x, side)))


COSMOS = Family(
    name="Cosmos",
    models=("GeneralDIT",),
    variants=(
        Variant("Cosmos 1.0 Text2World", (SELF, CROSS)),
        Variant("Cosmos 1.0 Video2World", (SELF, CROSS)),
    ),
    sites=sites_of_1,
    tokens=tokens,
    scheduler="karras",
    clips=always(TrainedClips(121, 24.0, ratio=8)),
    stream=Reason("its blocks take the tokens with axes, not in raster order alone"),
    mixed_prompt=None,
)
COSMOS_PREDICT2 = Family(
    name="Cosmos Predict2",
    models=("MiniTrainDIT", "Anima"),
    variants=(
        Variant("Cosmos Predict2 Text2Image", (SELF, CROSS)),
        Variant("Cosmos Predict2 Video2World", (SELF, CROSS)),
        Variant("Anima", (SELF, CROSS)),
    ),
    sites=sites_of_2,
    tokens=tokens,
    unreachable=("Anima's adapter of the text",),
    scheduler="karras",
    clips=always(TrainedClips(93, 16.0)),
    stream=BlockStream(("blocks",), "model_channels"),
    mixed_prompt=None,
)
