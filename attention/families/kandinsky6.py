"""Kandinsky 6: each block attends over the video and over the audio, both to the prompt, then to each other.

Read in ComfyUI's comfy/ldm/kandinsky6/model.py (November 2026), of which there are two forms: one hands the attention
between video and audio the host's options, the other does not.
"""

from math import prod

from ..core.reason import Reason
from ..core.site import AUDIO_CROSS, AUDIO_SELF, AUDIO_VIDEO, CROSS, SELF, TEXT, VIDEO_AUDIO
from ..core.tokens import Span, Tokens
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield every attention. Fused blocks have the host's numbers; the prompts' run first and come after them."""
    for index, block in enumerate(model.visual_blocks):
        yield block.videoT.self_attention, SELF, index
        yield block.videoT.cross_attention, CROSS, index
        yield block.audioT.self_attention, AUDIO_SELF, index
        yield block.audioT.cross_attention, AUDIO_CROSS, index
        yield block.va_cross_attention, VIDEO_AUDIO, index
        yield block.av_cross_attention, AUDIO_VIDEO, index
    prompts = (*model.video_text_transformer_blocks, *model.audio_text_transformer_blocks)
    for index, block in enumerate(prompts, len(model.visual_blocks)):
        yield block.self_attention, TEXT, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call. A start image comes behind the video: the model adds it (`k6_reference`),
    or the latent's last frame is one (`k6_reference_tail`).

    x: [video (B, C, T, Y, X), audio (B, samples, C)] latents.
    """
    if not isinstance(x, (list, tuple)) or len(x) < 2 or getattr(x[0], "ndim", 0) != 5:
        return Tokens(None, unknown="no video and audio latents")
    grid, image = _patches(model, x[0]), inputs.get("k6_reference")
    if image is not None:
        return Tokens(grid, suffix=(Span("reference", prod(_patches(model, image))),))
    if not inputs.get("k6_reference_tail"):
        return Tokens(grid)
    if grid[0] < 2:
        return Tokens(None, unknown="no frame beside the start image")
    return Tokens((grid[0] - 1, *grid[1:]), suffix=(Span("guide", prod(grid[1:])),))


def _patches(model, latent) -> tuple[int, ...]:
    return tuple(map(ceil_div, latent.shape[2:], model.patch_size))


ROLES = (SELF, CROSS, VIDEO_AUDIO, AUDIO_SELF, AUDIO_CROSS, AUDIO_VIDEO, TEXT)
KANDINSKY6 = Family(
    name="Kandinsky 6",
    models=("Kandinsky6NativeAVDiT",),
    variants=(Variant("Kandinsky 6", ROLES),),
    sites=sites,
    tokens=tokens,
    unreachable=("attention between video and audio, in ComfyUIs that hand it no options",),
    beside="audio",
    mixed_prompt=Reason("its prompt's tokens attend to one another on their way"),
)
