"""Wan 2.1 (https://arxiv.org/abs/2503.20314), Wan 2.2 and what was trained from them: each block attends over all
tokens, then to the prompt, in some models also to CLIP's image tokens or to audio.

What stands around the video in the sequence differs by model; frames that a reference image adds to the latent itself
(VACE, Animate) are no part of the grid either.
"""

from dataclasses import replace
from math import prod

from ..core.reason import Reason
from ..core.site import CROSS, IMAGE, POSE_CROSS, POSE_SELF, SELF, VIDEO_AUDIO
from ..core.tokens import Span, Tokens
from . import wan_references, wan_share
from .conditions import Frames
from .facts import BlockStream, Head, TimeRotary, TrainedClips, frequencies_of_embedder
from .spec import Family, Variant, ceil_div

# Which inputs become tokens before and after the video, in their order.
AROUND = (("reference_latent",), ("time_dim_concat", "context_latents"))
SCAIL = (("reference_latent",), ("time_dim_concat", "pose_latents"))
AROUND_IN = {
    "SCAILWanModel": SCAIL,
    "SCAIL2WanModel": SCAIL,
    "WanModel_S2V": ((), ("time_dim_concat", "reference_latent", "reference_motion")),
    "HumoWanModel": ((), ("time_dim_concat", "reference_latent")),
    "WanAnimate2Model": ((), ()),
}
KINDS = {"pose_latents": "pose", "reference_motion": "motion"}  # every other input is a reference


def sites(model):
    """Yield self-attention and the attentions to prompt and sound of each block, VACE's blocks after the model's."""
    for index, block in enumerate((*model.blocks, *getattr(model, "vace_blocks", ()))):
        yield block.self_attn, SELF, index
        yield block.cross_attn, CROSS, index
        if hasattr(block, "audio_cross_attn_wrapper"):
            yield block.audio_cross_attn_wrapper.audio_cross_attn, VIDEO_AUDIO, index


def tokens(model, x, inputs):
    """Lay out the tokens of one model call.

    x: (B, C, T, Y, X) latents, padded to whole patches of 1 x 2 x 2; one token is one patch.
    """
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    name = type(model).__name__
    before, after = AROUND_IN.get(name, AROUND)
    if name not in AROUND_IN and model.ref_conv is None:
        before = ()  # such a model ignores the reference
    prefix, suffix = tuple(_spans(model, before, inputs)), tuple(_spans(model, after, inputs))
    found = Tokens(_patches(model, x), prefix=prefix, suffix=suffix, keys=_keys(model, inputs))
    return wan_references.apart(model, found, inputs)


def roles_by_length(model):
    """Tell that calls to the prompt may be to the image tokens, where the model has them."""
    return {} if model.img_emb is None else {CROSS: (IMAGE,)}


def roles_beside_pose(model):
    """Tell as `roles_by_length`, with the calls of the pose's own sequence."""
    return {SELF: (POSE_SELF,), CROSS: (*roles_by_length(model).get(CROSS, ()), POSE_CROSS)}


def tokens_beside_pose(model, x, inputs):
    """Lay out as `tokens`; the pose video (B, C, T - 1, Y, X) is another sequence.

    Where there is one, each latent frame attends by itself: to all frames and, but for the reference image, to that
    one of the pose's behind them.
    """
    found = tokens(model, x, inputs)
    if inputs.get("pose_latents") is None or not found.prefix:
        return found
    frame, length = found.prefix[-1].length, prod(found.grid)
    branch = ((SELF, POSE_SELF, length), (CROSS, POSE_CROSS, length))
    return replace(found, branch=branch, guests=(Span("pose", frame),))


def _patches(model, latent) -> tuple[int, ...]:
    """Count the tokens along each axis of a latent (B, C, T, Y, X), or of an image's (B, C, Y, X)."""
    axes = latent.shape[2:]
    return tuple(map(ceil_div, axes, model.patch_size[-len(axes) :]))


def _spans(model, names, inputs):
    for name in names:
        given = inputs.get(name)
        if given is None:
            continue
        for latent in given if isinstance(given, (list, tuple)) else (given,):
            length = _packed(model, latent) if name == "reference_motion" else prod(_patches(model, latent))
            yield Span(KINDS.get(name, "reference"), length)


def _packed(model, motion) -> int:
    """Count the tokens of S2V's past frames (B, C, T, Y, X): the further back, the larger the patches.

    Source: FramePack, https://arxiv.org/abs/2504.12626. Fewer frames are padded, older ones dropped.
    """
    height, width = motion.shape[-2:]
    buckets = zip(model.frame_packer.zip_frame_buckets, (1, 2, 4), strict=True)
    return sum((frames // s) * (height // (2 * s)) * (width // (2 * s)) for frames, s in buckets)


def _keys(model, inputs) -> tuple[tuple[str, int], ...]:
    """Tell the calls of one module to the image tokens and to the text apart, unless they are equally many."""
    context = inputs.get("context")
    if model.img_emb is None or context is None:
        return ()
    images = (inputs.get("clip_fea"), inputs.get("clip_fea_ref"))
    length = sum(image.shape[-2] for image in images if image is not None)
    return () if length == context.shape[1] else ((IMAGE, length),)


CLIPS, CLIPS_OF_5B = TrainedClips(81, 16.0), TrainedClips(121, 24.0)
CLIPS_IN = {
    "HumoWanModel": TrainedClips(97, 25.0),
    "WanModel_S2V": TrainedClips(77, 16.0),
    "AnimateWanModel": TrainedClips(77, 30.0),
    "WanDancerModel": TrainedClips(149, 30.0),
}
CONDITIONS_IN = {
    # (1, layers, dim, 4 for each latent frame).
    "WanModel_S2V": {"audio_embed": Frames(3, per=4)},
    # Frame 0 is the reference, the pose begins behind it and may end before the clip.
    "AnimateWanModel": {"pose_latents": Frames(per=1, offset=1)},
    "WanAnimate2Model": {"pose_latents": Frames(per=1, offset=1)},
}


def pretrained(model):
    """Return the clips of the model that others were trained from; 2.2 5B is told by the channels of its latent."""
    return CLIPS_OF_5B if model.out_dim == 48 else CLIPS


def release_name(model):
    """Tell Wan 2.2 5B by the channels of its latent, and what was trained from it."""
    return "Wan 2.2 5B" if model.out_dim == 48 else None


def clips(model):
    """Return what it was trained with, itself or the model that it was trained from."""
    return CLIPS_IN.get(type(model).__name__) or pretrained(model)


def conditions(class_name):
    """Return how windows get those conditions that this class uses in another way than others."""
    return CONDITIONS_IN.get(class_name, {})


def start_mask(names):
    """Tell all but SCAIL-2, to which the mask says on purpose which frames it had before."""
    return "WAN21" in names and "WAN21_SCAIL2" not in names


# The intrinsic frequency as Wan's users found it.
ROTARY = TimeRotary(
    frequency=6, clips=pretrained, count=frequencies_of_embedder("rope_embedder"), embedder="rope_embedder"
)
TEXT_ONLY = (SELF, CROSS)
WITH_IMAGE = (SELF, CROSS, IMAGE)
WAN = Family(
    name="Wan",
    models=(
        "WanModel",
        "VaceWanModel",
        "CameraWanModel",
        "WanModel_S2V",
        "HumoWanModel",
        "AnimateWanModel",
        "SCAILWanModel",
        "SCAIL2WanModel",
        "WanDancerModel",
    ),
    variants=(
        Variant("Wan 2.1 T2V", TEXT_ONLY),
        Variant("Wan 2.1 I2V", WITH_IMAGE),
        Variant("Wan 2.1 FLF2V", WITH_IMAGE),
        Variant("Wan 2.1 Fun Control", WITH_IMAGE),
        Variant("Wan 2.1 Fun Camera", WITH_IMAGE),
        Variant("Wan 2.1 VACE", TEXT_ONLY),
        Variant("Wan 2.1 Phantom", TEXT_ONLY),
        Variant("Wan 2.1 HuMo", (SELF, CROSS, VIDEO_AUDIO)),
        Variant("Wan 2.1 FlowRVS", TEXT_ONLY),
        Variant("Wan 2.1 SCAIL", WITH_IMAGE),
        Variant("Wan 2.1 SCAIL-2", WITH_IMAGE),
        Variant("Wan 2.2 TI2V 5B", TEXT_ONLY),
        Variant("Wan 2.2 T2V 14B", TEXT_ONLY),
        Variant("Wan 2.2 I2V 14B", TEXT_ONLY),
        Variant("Wan 2.2 Fun Control", TEXT_ONLY),
        Variant("Wan 2.2 Fun Camera", TEXT_ONLY),
        Variant("Wan 2.2 S2V", TEXT_ONLY),
        Variant("Wan 2.2 Animate", WITH_IMAGE),
        Variant("WanDancer", WITH_IMAGE),
        Variant("Bernini", TEXT_ONLY),
    ),
    sites=sites,
    tokens=tokens,
    roles_by_length=roles_by_length,
    release_name=release_name,
    unreachable=(
        "S2V: audio injector",
        "Animate: face adapter",
        "WanDancer: music encoder and injector",
        "MultiTalk and InfiniteTalk: audio attention",
        "Uni3C: its control net",
    ),
    beside="audio",
    clips=clips,
    conditions=conditions,
    references=wan_references.references,
    start_mask=start_mask,
    stream=BlockStream(("blocks",), "dim"),
    rotary=ROTARY,
    mixed_prompt=None,
    # WanDancer has a head more for clips of another rate.
    head=Head(("head", "head_global"), ("blocks",), "dim"),
    shared=wan_share.WAN,
)
WAN_CAUSAL = Family(
    name="Wan causal",
    models=("CausalWanModel",),
    variants=(Variant("Wan 2.1 causal", TEXT_ONLY),),
    sites=sites,
    tokens=tokens,
    unreachable=("all calls under the sampler ar_video, which hands the blocks no options",),
    clips=clips,
    stream=Reason("the sampler ar_video hands its blocks no options"),
    mixed_prompt=None,
)
UNHOOKED = Reason("ComfyUI calls its blocks in ways that no hook of them sees")
WAN_ANIMATE_2 = Family(
    name="Wan-Animate-2",
    models=("WanAnimate2Model",),
    variants=(Variant("Wan-Animate-2", (*WITH_IMAGE, POSE_SELF, POSE_CROSS)),),
    sites=sites,
    tokens=tokens_beside_pose,
    roles_by_length=roles_beside_pose,
    forward_methods=("forward_gen", "forward_pose"),
    prompt_aliases=("context_pose",),
    clips=clips,
    conditions=conditions,
    references=wan_references.references,
    stream=UNHOOKED,
    mixed_prompt=None,
    shared=UNHOOKED,
)
