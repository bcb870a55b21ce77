"""Flux.1 (https://github.com/black-forest-labs/flux) and models of its class: double-stream, then single-stream blocks
over the prompt's, the image's and the reference images' tokens in one sequence. There is no time axis."""

from math import prod

from ..core.site import SELF
from ..core.tokens import Span, Tokens
from .facts import BlockStream
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield the self-attention of each double block, then of each single one."""
    for index, block in enumerate((*model.double_blocks, *model.single_blocks)):
        yield block, SELF, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, Y, X) latents, padded to whole patches. Every reference image has its own size.
    """
    if getattr(x, "ndim", 0) != 4:
        return Tokens(None, unknown="no image latent")
    references = tuple(Span("reference", prod(_patches(model, ref))) for ref in inputs.get("ref_latents") or ())
    return Tokens((1, *_patches(model, x)), (Span("text", inputs["context"].shape[1]),), references)


def _patches(model, latent) -> tuple[int, ...]:
    return tuple(ceil_div(length, model.patch_size) for length in latent.shape[2:])


FLUX = Family(
    name="Flux",
    models=("Flux",),
    variants=(
        Variant("Flux.1", (SELF,)),
        Variant("Flux.1 Kontext", (SELF,)),
        Variant("Flux.1 Fill", (SELF,)),
        Variant("Flux.2", (SELF,)),
        Variant("LongCat-Image", (SELF,)),
        Variant("Ovis-Image", (SELF,)),
    ),
    sites=sites,
    tokens=tokens,
    unreachable=("ControlNets",),
    beside="txt",
    stream=BlockStream(("double_blocks", "single_blocks"), "hidden_size"),
)
