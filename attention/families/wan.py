"""Wan 2.1 (https://arxiv.org/abs/2503.20314), Wan 2.2 and what was trained from them: each block attends over all
tokens, then to the prompt, in some models also to CLIP's image tokens or to audio.

What stands around the video in the sequence differs by model; frames that a reference image adds to the latent itself
(VACE, Animate) are part of the grid.
"""

from dataclasses import replace
from math import prod

from ..core.site import CROSS, IMAGE, POSE_CROSS, POSE_SELF, SELF, VIDEO_AUDIO
from ..core.tokens import Span, Tokens
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
    for index, block in enumerate((*model.blocks, *getattr(model, "vace_blocks", ()))):
        yield block.self_attn, SELF, index
        yield block.cross_attn, CROSS, index
        if hasattr(block, "audio_cross_attn_wrapper"):
            yield block.audio_cross_attn_wrapper.audio_cross_attn, VIDEO_AUDIO, index


def tokens(model, x, inputs):
    """x: (B, C, T, Y, X) latents, padded to whole patches of 1 x 2 x 2; one token is one patch."""
    if getattr(x, "ndim", 0) != 5:
        return Tokens(None, unknown="no video latent")
    name = type(model).__name__
    before, after = AROUND_IN.get(name, AROUND)
    if name not in AROUND_IN and model.ref_conv is None:
        before = ()  # such a model ignores the reference
    prefix, suffix = tuple(_spans(model, before, inputs)), tuple(_spans(model, after, inputs))
    return Tokens(_patches(model, x), prefix=prefix, suffix=suffix, keys=_keys(model, inputs))


def apart(model):
    return {} if model.img_emb is None else {CROSS: (IMAGE,)}


def apart_beside_pose(model):
    return {SELF: (POSE_SELF,), CROSS: (*apart(model).get(CROSS, ()), POSE_CROSS)}


def tokens_beside_pose(model, x, inputs):
    """As `tokens`; the pose video (B, C, T - 1, Y, X) is a sequence of its own, as frame 0 is the reference image.

    Where there is one, each latent frame attends by itself: to all frames and to one of the pose's.
    """
    found = tokens(model, x, inputs)
    if found.grid is None or inputs.get("pose_latents") is None:
        return found
    length = prod(found.grid) - prod(found.grid[1:])
    return replace(found, branch=((SELF, POSE_SELF, length), (CROSS, POSE_CROSS, length)))


def _patches(model, latent) -> tuple[int, ...]:
    """Tokens along each axis of a latent (B, C, T, Y, X), or of an image's (B, C, Y, X)."""
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
    """Tokens of S2V's past frames (B, C, T, Y, X): the further back, the larger the patches.

    Source: FramePack, https://arxiv.org/abs/2504.12626. Fewer frames are padded, older ones dropped.
    """
    height, width = motion.shape[-2:]
    buckets = zip(model.frame_packer.zip_frame_buckets, (1, 2, 4), strict=True)
    return sum((frames // s) * (height // (2 * s)) * (width // (2 * s)) for frames, s in buckets)


def _keys(model, inputs) -> tuple[tuple[str, int], ...]:
    """One module attends to the image tokens and to the text, in two calls: told apart unless they are equally many."""
    context = inputs.get("context")
    if model.img_emb is None or context is None:
        return ()
    images = (inputs.get("clip_fea"), inputs.get("clip_fea_ref"))
    length = sum(image.shape[-2] for image in images if image is not None)
    return () if length == context.shape[1] else ((IMAGE, length),)


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
    apart=apart,
    unreachable=(
        "S2V: audio injector",
        "Animate: face adapter",
        "WanDancer: music encoder and injector",
        "MultiTalk and InfiniteTalk: audio attention",
        "Uni3C: its control net",
    ),
)
WAN_CAUSAL = Family(
    name="Wan causal",
    models=("CausalWanModel",),
    variants=(Variant("Wan 2.1 causal", TEXT_ONLY),),
    sites=sites,
    tokens=tokens,
    apart=apart,
    unreachable=("all calls under the sampler ar_video, which hands the blocks no options",),
)
WAN_ANIMATE_2 = Family(
    name="Wan-Animate-2",
    models=("WanAnimate2Model",),
    variants=(Variant("Wan-Animate-2", (*WITH_IMAGE, POSE_SELF, POSE_CROSS)),),
    sites=sites,
    tokens=tokens_beside_pose,
    apart=apart_beside_pose,
    methods=("forward_gen", "forward_pose"),
    follows=("context_pose",),
)
