"""CogVideoX (https://arxiv.org/abs/2408.06072): each block attends over the prompt's tokens and then the video's."""

from ..core.site import SELF
from ..core.tokens import Span, Tokens
from .facts import BlockStream, TimeRotary, TrainedClips
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield the self-attention of each block."""
    for index, block in enumerate(model.blocks):
        yield block, SELF, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, padded to whole patches; only 1.5 has patches of more than one frame.
    """
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    patch = (model.patch_size_t or 1, model.patch_size, model.patch_size)
    return Tokens(tuple(map(ceil_div, x.shape[2:], patch)), prefix=(Span("text", inputs["context"].shape[1]),))


CLIPS, CLIPS_OF_1_5 = TrainedClips(49, 8.0), TrainedClips(81, 16.0)


def is_1_5(model) -> bool:
    """Tell CogVideoX 1.5 by its patches of time."""
    return bool(getattr(model, "patch_size_t", None))


def clips(model):
    """Return what it was trained with."""
    return CLIPS_OF_1_5 if is_1_5(model) else CLIPS


def learned_positions(model):
    """Tell 1.0's image to video: it has positions of one length beside the rotary ones."""
    return bool(getattr(getattr(model, "patch_embed", None), "use_learned_positional_embeddings", False))


# The intrinsic frequency is the authors' of RIFLEx.
ROTARY = TimeRotary(
    frequency=2,
    clips=clips,
    count=lambda model: model.attention_head_dim // 4 // 2,
    table="_get_rotary_emb",
    patch=lambda model: model.patch_size_t or 1,
)
COGVIDEOX = Family(
    name="CogVideoX",
    models=("CogVideoXTransformer3DModel",),
    variants=(
        Variant("CogVideoX", (SELF,)),
        Variant("CogVideoX I2V", (SELF,)),
        Variant("CogVideoX Fun", (SELF,)),
        Variant("CogVideoX 1.5", (SELF,)),
        Variant("CogVideoX 1.5 I2V", (SELF,)),
        Variant("VOID", (SELF,)),
    ),
    sites=sites,
    tokens=tokens,
    clips=clips,
    learned_positions=learned_positions,
    stream=BlockStream(("blocks",), "dim"),
    rotary=ROTARY,
)
