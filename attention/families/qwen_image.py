"""Qwen-Image (https://arxiv.org/abs/2508.02324): each block attends over the tokens of the prompt, of the image and of
the reference images. An image has one frame; Qwen-Image-Layered has one for each layer."""

from math import prod

from ..core.site import SELF
from ..core.tokens import Span, Tokens
from .facts import BlockStream
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield the self-attention of each block."""
    for index, block in enumerate(model.transformer_blocks):
        yield block.attn, SELF, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, padded to whole patches. Every reference image has its own size.
    """
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no latent with an axis of frames")
    references = tuple(Span("reference", prod(_patches(model, ref))) for ref in inputs.get("ref_latents") or ())
    return Tokens(_patches(model, x), (Span("text", inputs["context"].shape[1]),), references)


def _patches(model, latent) -> tuple[int, int, int]:
    return tuple(map(ceil_div, latent.shape[2:], (1, model.patch_size, model.patch_size)))


QWEN_IMAGE = Family(
    name="Qwen-Image",
    models=("QwenImageTransformer2DModel",),
    variants=(
        Variant("Qwen-Image", (SELF,)),
        Variant("Qwen-Image-Edit", (SELF,)),
        Variant("Qwen-Image-Edit 2511", (SELF,)),
        Variant("Qwen-Image-Layered", (SELF,)),
    ),
    sites=sites,
    tokens=tokens,
    unreachable=("ControlNets",),
    beside="txt|^add_|_add_",
    stream=BlockStream(("transformer_blocks",), "inner_dim", part=1),
)
