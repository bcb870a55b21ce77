"""MiniMax-H3: blocks attend over one packed sequence of text, references, audio and video, one prompt at a time.

The order of the packed sequence is the host's own (comfy/ldm/minimax/model.py, PackedLayout): the video comes last.
"""

from ..core.reason import Reason
from ..core.site import SELF
from ..core.tokens import Span, Tokens
from . import token_share
from .conditions import Heard, Laid
from .facts import Head, SoundStream, TrainedClips, always
from .spec import Family, Variant, ceil_div


def sites(model):
    """Yield the self-attention of each block."""
    for index, block in enumerate(model.blocks):
        yield block.attn, SELF, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: [video (1, 24, T, Y, X), audio (1, 32, 2, samples)] latents; a token is 1 x 2 x 2 of the video, padded.
    """
    if not isinstance(x, (list, tuple)) or len(x) < 2 or x[0].ndim != 5:
        return Tokens(None, unknown="no video and audio latents")
    video, audio = x[0], x[1]
    frames, height, width = video.shape[2:]
    patch_t, patch_y, patch_x = model.patch_size
    grid = (ceil_div(frames, patch_t), ceil_div(height, patch_y), ceil_div(width, patch_x))
    payload = inputs.get("minimax_payload") or {}
    references = (Span("reference"),) if payload.get("keyframes") or payload.get("refs") else ()
    text = Span("text", inputs["context"].shape[1])
    return Tokens(grid, prefix=(text, *references, Span("audio", audio.shape[-2] * audio.shape[-1])))


def release_name(model):
    """Tell FastH3 by the gates of the sparse attention that it was distilled with; no other model has them."""
    return (
        "FastH3" if any(getattr(block.attn, "to_gate_compress", None) is not None for block in model.blocks) else None
    )


# Pictures in a latent frame: 17 of them are 5 latent frames (FRAME_PER_TOKEN in the host's model).
SIZES = (1, 4, 4, 4, 4)
# The sound is (1, 32, 2, samples), 40 a second; newer ComfyUIs tell the model what a mask keeps of it.
SOUND = SoundStream(axis=3)
CONDITIONS = {"minimax_payload": Laid(SIZES), "audio_denoise_mask": Heard(SOUND.axis, SIZES)}
MINIMAX = Family(
    name="MiniMax-H3",
    models=("MiniMaxH3Model",),
    variants=(Variant("MiniMax-H3", (SELF,)), Variant("FastH3", (SELF,))),
    sites=sites,
    tokens=tokens,
    release_name=release_name,
    unreachable=(
        "Fun-ControlNet's tower (newer ComfyUIs hand it no override)",
        "the refiner of the prompt, run once before sampling",
    ),
    # 124 to 362 pictures in training.
    clips=always(TrainedClips(124, 24.0)),
    frame_sizes=SIZES,
    sound=SOUND,
    # Later than elsewhere, and not to the end: https://github.com/Comfy-Org/docs/pull/1698.
    pattern_range=(0.4, 0.9),
    conditions=lambda class_name: CONDITIONS,
    stream=Reason("its blocks take text, sound and video packed into one sequence"),
    head=Head(("final_layer",), ("blocks",), "hidden_size", batched=False),
    shared=token_share.MINIMAX,
)
