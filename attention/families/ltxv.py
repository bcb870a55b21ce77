"""LTX-Video (https://arxiv.org/abs/2501.00103) and LTX-2 (https://arxiv.org/abs/2601.03233), which adds audio.

Each block attends over all video tokens, then to the text; LTX-2 does the same for audio, then joins the two.
"""

from math import prod

from ..family import Family, Variant
from ..site import AUDIO_CROSS, AUDIO_SELF, AUDIO_VIDEO, CROSS, SELF, VIDEO_AUDIO
from ..tokens import Span, Tokens

# In the order of the calls. The host names the last two by the flow of information, roles put the queries first.
ATTENTION = {
    "attn1": SELF, "attn2": CROSS, "audio_attn1": AUDIO_SELF, "audio_attn2": AUDIO_CROSS,
    "audio_to_video_attn": VIDEO_AUDIO, "video_to_audio_attn": AUDIO_VIDEO,
}  # fmt: skip


def sites(model):
    for index, block in enumerate(model.transformer_blocks):
        for name, role in ATTENTION.items():
            if hasattr(block, name):
                yield getattr(block, name), role, index


def tokens(model, x, inputs):
    """x: (B, C, T, Y, X) latents, or a list of them and the audio's; one token is one latent pixel.

    The last frames are guides, as many as `keyframe_idxs` (B, 3, tokens, 2) has positions for.
    """
    video = x[0] if isinstance(x, (list, tuple)) and x else x
    if getattr(video, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    frames, height, width = video.shape[2:]
    positions = inputs.get("keyframe_idxs")
    appended = 0 if positions is None else positions.shape[2]
    if not appended:
        return Tokens((frames, height, width))
    guides, rest = divmod(appended, height * width)
    if rest or guides >= frames:
        return Tokens(None, unknown="guides are no whole frames after the video")
    kept = _kept(appended, inputs.get("guide_attention_entries") or ())
    return Tokens((frames - guides, height, width), suffix=(Span("guide", kept),))


def _kept(appended: int, entries) -> int:
    """Guide tokens left: of a guide on a coarser grid (IC-LoRA) the host drops what lies between its pixels."""
    if sum(entry["pre_filter_count"] for entry in entries) != appended:
        return appended
    return sum(prod(entry.get("latent_shape") or (entry["pre_filter_count"],)) for entry in entries)


LTXV = Family(
    name="LTXV",
    models=("LTXVModel",),
    variants=(Variant("LTX-Video 0.9", (SELF, CROSS)),),
    sites=sites,
    tokens=tokens,
)
LTX2 = Family(
    name="LTX-2",
    models=("LTXAVModel",),
    variants=(Variant("LTX-2", tuple(ATTENTION.values())), Variant("LTX-2.3", tuple(ATTENTION.values()))),
    sites=sites,
    tokens=tokens,
    unreachable=("the connectors that prepare the prompt, run once before sampling",),
)
