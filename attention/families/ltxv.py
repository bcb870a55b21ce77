"""LTX-Video (https://arxiv.org/abs/2501.00103) and LTX-2 (https://arxiv.org/abs/2601.03233), which adds audio.

Each block attends over all video tokens, then to the text; LTX-2 does the same for audio, then joins the two.
"""

from math import prod

from ..core.reason import Reason
from ..core.site import AUDIO_CROSS, AUDIO_SELF, AUDIO_VIDEO, CROSS, SELF, VIDEO_AUDIO
from ..core.tokens import Span, Tokens
from . import token_share
from .conditions import Refused
from .facts import BlockStream, Head, TrainedClips, always
from .spec import Family, Variant

# In the order of the calls. The host names the last two by the flow of information, roles put the queries first.
ATTENTION = {
    "attn1": SELF, "attn2": CROSS, "audio_attn1": AUDIO_SELF, "audio_attn2": AUDIO_CROSS,
    "audio_to_video_attn": VIDEO_AUDIO, "video_to_audio_attn": AUDIO_VIDEO,
}  # fmt: skip


def sites(model):
    """Yield the attentions that each block has: the video's, the sound's and those between them."""
    for index, block in enumerate(model.transformer_blocks):
        for name, role in ATTENTION.items():
            if hasattr(block, name):
                yield getattr(block, name), role, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call; one token is one latent pixel.

    The last frames are guides, as many as `keyframe_idxs` (B, 3, tokens, 2) has positions for. Of the rest, LTX-2.5 may
    fill some as stills of their own: `generated_keyframes` says which.

    x: (B, C, T, Y, X) latents, or a list of them and the audio's.
    """
    video = x[0] if isinstance(x, (list, tuple)) and x else x
    if getattr(video, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    frames, height, width = video.shape[2:]
    positions = inputs.get("keyframe_idxs")
    appended = 0 if positions is None else positions.shape[2]
    guides, rest = divmod(appended, height * width) if appended else (0, 0)
    if rest or (guides and guides >= frames):
        return Tokens(None, unknown="guides are no whole frames after the video")
    after = (Span("guide", _kept(appended, inputs.get("guide_attention_entries") or ())),) if guides else ()
    first, last = _slots(inputs.get("generated_keyframes"), frames - guides)
    if first < last and (first > 0 and last < frames - guides or last - first == frames - guides):
        return Tokens(None, unknown="generated keyframes lie between the frames of the video, or are all of it")
    stills = (Span("keyframe", (last - first) * height * width),) if first < last else ()
    if first == 0 and stills:
        return Tokens((frames - guides - last, height, width), prefix=stills, suffix=after)
    return Tokens((first, height, width), suffix=(*stills, *after))


def _slots(generated, frames: int) -> tuple[int, int]:
    """Return the frames, from .. to, that are filled as stills; those among the guides are no frames of the video."""
    if not generated:
        return frames, frames
    first = min(generated["first_latent_frame"], frames)
    return first, min(first + generated["num_keyframes"], frames)


def _kept(appended: int, entries) -> int:
    """Count the guide tokens left: of one on a coarser grid (IC-LoRA) the host drops what lies between its pixels."""
    if sum(entry["pre_filter_count"] for entry in entries) != appended:
        return appended
    return sum(prod(entry.get("latent_shape") or (entry["pre_filter_count"],)) for entry in entries)


def release_name(model):
    """Tell LTX-2.5 by its embedding of keyframes, LTX-2.3 by its adaptive norms before the text."""
    if getattr(model, "keyframes_abs_pos_embedding", None) is not None:
        return "LTX-2.5"
    return "LTX-2.3" if getattr(model, "cross_attention_adaln", False) else None


def skipped_block(model):
    """Return what Lightricks' pipelines skip, 28 in LTX-2.3 (LTX_2_3_PARAMS), else what ComfyUI's own node does."""
    return 28 if release_name(model) == "LTX-2.3" else 29


# Any length and rate.
CLIPS = TrainedClips(None, 24.0, ratio=8)
STREAM = BlockStream(("transformer_blocks",), "inner_dim")
HEAD = Head(("_process_output",), ("transformer_blocks",), "inner_dim")
ROTARY = Reason("its frequencies over time differ from head to head, so that there is no single one to slow down")
KEYFRAMES = {"generated_keyframes": Refused("its generated keyframes are places of the whole clip's latent")}
LTXV = Family(
    name="LTXV",
    models=("LTXVModel",),
    variants=(Variant("LTX-Video 0.9", (SELF, CROSS)),),
    sites=sites,
    tokens=tokens,
    scheduler="ltxv",
    clips=always(CLIPS),
    stream=STREAM,
    rotary=ROTARY,
    mixed_prompt=None,
    skipped_block=always(19),
    head=HEAD,
    shared=token_share.LTXV,
)
LTX2 = Family(
    name="LTX-2",
    models=("LTXAVModel",),
    variants=tuple(Variant(name, tuple(ATTENTION.values())) for name in ("LTX-2", "LTX-2.3", "LTX-2.5")),
    sites=sites,
    tokens=tokens,
    release_name=release_name,
    unreachable=("the connectors that prepare the prompt and the duration head, run once before sampling",),
    beside="audio",
    scheduler="ltxv",
    clips=always(CLIPS),
    conditions=lambda class_name: KEYFRAMES,
    stream=STREAM,
    rotary=ROTARY,
    mixed_prompt=None,
    skipped_block=skipped_block,
    head=HEAD,
    shared=token_share.LTX2,
)
