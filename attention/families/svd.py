"""Stable Video Diffusion (https://arxiv.org/abs/2311.15127) and the image U-Nets of the same class.

Frames are batch items. A spatial block attends inside each frame and to the picture or the text; the `time_stack`
block beside it does the same along the frames of each place. An image is a video of one frame: its attention is
spatial as well, for every level of the U-Net has a grid of its own.
"""

from itertools import zip_longest

from ..core.reason import Reason
from ..core.site import CROSS, IMAGE, SPATIAL, TEMPORAL
from ..core.tokens import Tokens
from .spec import Family, Variant, ceil_div

TRANSFORMERS = ("SpatialTransformer", "SpatialVideoTransformer")


def sites(model):
    """Yield each attention, numbered through input, middle, output; a temporal block has its spatial one's number."""
    index = 0
    context = IMAGE if model.use_temporal_resblocks else CROSS
    for transformer in model.modules():
        if type(transformer).__name__ not in TRANSFORMERS:
            continue
        pairs = zip_longest(transformer.transformer_blocks, getattr(transformer, "time_stack", ()))
        for spatial, temporal in pairs:
            yield from _sites_of(spatial, SPATIAL, context, index)
            if temporal is not None:
                yield from _sites_of(temporal, TEMPORAL, context, index)
            index += 1


def _sites_of(block, role, context, index):
    yield block.attn1, context if block.disable_self_attn else role, index
    if block.attn2 is not None:
        yield block.attn2, context, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call. Each level halves Y and X, rounding up.

    x: (B*T, C, Y, X) latents, T = `num_video_frames` of a video model.
    """
    frames = inputs.get("num_video_frames") if model.use_temporal_resblocks else 1
    if getattr(x, "ndim", 0) != 4:
        return Tokens(None, unknown="no latent of an image or of frames")
    if not isinstance(frames, int):
        return Tokens(None, unknown="no number of frames")
    y, x = x.shape[2:]
    steps = (2**level for level in range(len(model.channel_mult)))
    grid, *levels = ((frames, ceil_div(y, step), ceil_div(x, step)) for step in steps)
    return Tokens(grid, levels=tuple(levels))


ROLES = (SPATIAL, TEMPORAL, IMAGE)
SVD = Family(
    name="SVD",
    models=("UNetModel",),
    variants=(
        Variant("Stable Video Diffusion", ROLES),
        Variant("SV3D", ROLES),
        Variant("Stable Diffusion 1.5", (SPATIAL, CROSS)),
        Variant("Stable Diffusion x4 upscaler", (SPATIAL, CROSS)),
        Variant("SDXL", (SPATIAL, CROSS)),
    ),
    sites=sites,
    tokens=tokens,
    unreachable=("ControlNets", "attention that another node replaces"),
    scheduler="karras",
    stream=Reason("its levels have tokens of several widths"),
    rotary=Reason("it knows frames by a learned embedding"),
    mixed_prompt=Reason("it takes an image for its prompt, no text"),
)
