"""LTX-2 and LTX-2.3: video and audio."""

import torch

from .case import Case, build
from .ltxv import guided, mask, video

CONFIG = {
    "image_model": "ltxav", "in_channels": 128, "audio_in_channels": 128, "cross_attention_dim": 48,
    "audio_cross_attention_dim": 32, "attention_head_dim": 24, "audio_attention_head_dim": 16,
    "num_attention_heads": 2, "audio_num_attention_heads": 2, "caption_channels": 16, "num_layers": 2,
    "connector_num_attention_heads": 2, "connector_attention_head_dim": 8, "connector_num_layers": 1,
    "use_middle_indices_grid": True,
}  # fmt: skip
# What sets LTX-2.3 apart: gates, adaptive norms before the text, the connectors at the width of the blocks.
CONFIG_2_3 = {
    **CONFIG, "apply_gated_attention": True, "cross_attention_adaln": True, "caption_proj_before_connector": True,
    "caption_projection_first_linear": False, "connector_apply_gated_attention": True,
    "connector_attention_head_dim": 24, "audio_connector_attention_head_dim": 16,
}  # fmt: skip
CONFIG_2_5 = {**CONFIG_2_3, "ff_bias": False, "audio_ff_bias": False, "use_keyframes_abs_pos_embedding": True}
VIDEO = {"self": 2, "cross": 2}
CALLS = {**VIDEO, "audio self": 2, "audio cross": 2, "video to audio": 2, "audio to video": 2}


def model():
    return build("LTXAV", CONFIG)


def model_2_3():
    return build("LTXAV", CONFIG_2_3)


def config_2_5():
    """What the host's class can be built of."""
    import inspect

    from comfy.ldm.lightricks.model import LTXBaseModel

    known = "use_keyframes_abs_pos_embedding" in inspect.signature(LTXBaseModel.__init__).parameters
    return CONFIG_2_5 if known else CONFIG_2_3


def model_2_5():
    """In the host's own class where it knows of keyframes (0.33), else LTX-2.3 with what was read of them there: a
    parameter of that name, and the conditioning that reaches the model; what the host adds to those tokens is left out.
    """
    made = build("LTXAV", config_2_5())
    if config_2_5() is CONFIG_2_5:
        return made
    network, base = made.model.diffusion_model, made.model
    network.keyframes_abs_pos_embedding = torch.nn.Parameter(torch.zeros(1, network.inner_dim))
    conds = base.extra_conds

    def extra_conds(**given):
        from comfy.conds import CONDConstant

        slots = given.get("generated_keyframes")
        return conds(**given) | ({} if slots is None else {"generated_keyframes": CONDConstant(slots)})

    base.extra_conds = extra_conds
    return made


def generated(first, count, *guides):
    """A maker of conditioning: `count` latent frames from `first` on are stills of their own, then come guides."""

    def make():
        slots = {"tokens_per_frame": 20, "first_latent_frame": first, "num_keyframes": count}
        return {**(guided(*guides)() if guides else {}), "generated_keyframes": slots}

    return make


def case_2_5(name="", frames=3, **more):
    return Case("LTX-2.5", model_2_5, with_audio(video(frames)), (1, 7, 80), CALLS, name=name, **more)


def with_audio(make_video, length=9):
    """A maker of latents: the video and `length` audio tokens."""

    def make():
        from comfy.nested_tensor import NestedTensor

        frames = make_video()
        return NestedTensor([frames, torch.zeros(frames.shape[0], 8, length, 16)])

    return make


def case(name="", latent=None, calls=None, text=(1, 7, 32), **more):
    return Case("LTX-2", model, latent or with_audio(video(3)), text, calls or CALLS, name=name, **more)


def ref_audio():
    return {"ref_audio": {"tokens": torch.zeros(1, 6, 128)}}


CASES = (
    case(grid=(3, 4, 5)),
    case("prompt through the connectors", text=(1, 7, 16), grid=(3, 4, 5)),
    case("no audio", video(3), VIDEO, grid=(3, 4, 5)),
    case("audio as long as video, both prompts", with_audio(video(3), 60), grid=(3, 4, 5), options={"cfg": 3.0}),
    case("one frame, batch of 2", with_audio(video(1, 3, 7, batch=2)), grid=(1, 3, 7)),
    case("reference audio", grid=(3, 4, 5), conditioning=ref_audio),
    case(
        "guide", with_audio(video(4)), grid=(3, 4, 5), after=(("guide", 20),),
        conditioning=guided((1, 4, 5)), options={"noise_mask": mask(3, (1, 4, 5))},
    ),
    case(
        "guide of half strength", with_audio(video(4)), {**CALLS, "self": 4}, grid=(3, 4, 5), after=(("guide", 20),),
        conditioning=guided((1, 4, 5), strength=0.5), options={"noise_mask": mask(3, (1, 4, 5))},
    ),
    Case("LTX-2.3", model_2_3, with_audio(video(3)), (1, 7, 80), CALLS, grid=(3, 4, 5)),
    case_2_5(grid=(3, 4, 5)),
    case_2_5("generated keyframes", 5, grid=(3, 4, 5), after=(("keyframe", 40),), conditioning=generated(3, 2)),
    case_2_5("generated keyframes in front", 5, grid=(3, 4, 5), before=(("keyframe", 40),),
             conditioning=generated(0, 2)),
    case_2_5("generated keyframes within", 5, unplaced="between the frames", conditioning=generated(2, 1)),
    case_2_5(
        "generated keyframes before a guide", 5, grid=(3, 4, 5), after=(("keyframe", 20), ("guide", 20)),
        conditioning=generated(3, 1, (1, 4, 5)), options={"noise_mask": mask(4, (1, 4, 5))},
    ),
    case_2_5(
        "generated keyframes told as guides", 5, grid=(4, 4, 5), after=(("guide", 20),),
        conditioning=generated(4, 1, (1, 4, 5)), options={"noise_mask": mask(4, (1, 4, 5))},
    ),
)  # fmt: skip
