"""Kandinsky 5 (https://arxiv.org/abs/2511.14993): text blocks; visual blocks attend to all tokens, then to the text."""

from ..core.reason import Reason
from ..core.site import CROSS, SELF, TEXT
from ..core.tokens import Tokens
from .facts import BlockStream, TrainedClips, always
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield each attention. Visual blocks have the host's numbers; text blocks run first and come after them."""
    for index, block in enumerate(model.visual_transformer_blocks):
        yield block.self_attention, SELF, index
        yield block.cross_attention, CROSS, index
    for index, block in enumerate(model.text_transformer_blocks, len(model.visual_transformer_blocks)):
        yield block.self_attention, TEXT, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, (B, C, Y, X) of an image. Image-to-video writes its frames over the first ones.
    """
    shape = tuple(getattr(x, "shape", ()))
    if len(shape) not in (4, 5):
        return Tokens(None, unknown="no latent of a video or an image")
    size = shape[2:] if len(shape) == 5 else (1, *shape[2:])
    return Tokens(tuple(map(ceil_div, size, model.patch_size)))


ROLES = (SELF, CROSS, TEXT)
KANDINSKY5 = Family(
    name="Kandinsky 5",
    models=("Kandinsky5",),
    variants=(
        Variant("Kandinsky 5 text to video", ROLES),
        Variant("Kandinsky 5 image to video", ROLES),
        Variant("Kandinsky 5 image", ROLES),
    ),
    sites=sites,
    tokens=tokens,
    clips=always(TrainedClips(121, 24.0)),
    start_mask=lambda names: "Kandinsky5" in names,
    stream=BlockStream(("visual_transformer_blocks",), "model_dim"),
    mixed_prompt=Reason("its prompt's tokens attend to one another on their way"),
)
