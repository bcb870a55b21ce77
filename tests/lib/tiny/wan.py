"""Wan 2.1, 2.2 and what was trained from them."""

from functools import partial

import torch

from .case import Case, build

TEXT = 7
BASE = {
    "image_model": "wan2.1", "patch_size": (1, 2, 2), "dim": 24, "num_heads": 2, "ffn_dim": 16, "freq_dim": 16,
    "text_dim": 16, "num_layers": 2, "in_dim": 16, "out_dim": 16,
}  # fmt: skip


def maker(host_class, **config):
    return partial(build, host_class, {**BASE, **config})


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def zeros(*shape):
    return partial(torch.zeros, shape)


def clip(tokens, seed=0):
    import comfy.clip_vision

    output = comfy.clip_vision.Output()
    output["penultimate_hidden_states"] = noise(1, tokens, 1280, seed=seed)
    return output


def seen(tokens=257, **more):
    """Conditioning with CLIP's tokens of a start image, `tokens` of them."""
    return {"clip_vision_output": clip(tokens), **more}


def first_kept():
    """A mask that keeps the first frame."""
    mask = torch.ones(1, 1, 3, 6, 8)
    mask[:, :, 0] = 0
    return mask


def subjects():
    return {"time_dim_concat": noise(1, 16, 2, 6, 8)}


def still():
    return {"reference_latents": [noise(1, 16, 1, 6, 8)]}


def streams():
    """A source video and a reference image of another size, odd."""
    return {"context_latents": [noise(1, 16, 3, 6, 8), noise(1, 16, 1, 5, 4)]}


def start_and_end():
    return seen(514, concat_latent_image=noise(1, 16, 3, 6, 8), concat_mask=first_kept())


def control():
    return seen(**still(), concat_latent_image=noise(1, 32, 3, 6, 8))


def control_with_mask():
    """Control video and start image, the start image's mask between them."""
    return {
        **still(),
        "concat_latent_image": noise(1, 32, 3, 6, 8),
        "concat_mask": first_kept(),
        "concat_mask_index": 16,
    }


def camera():
    return {"camera_conditions": noise(1, 24, 3, 48, 64)}


def two_controls():
    return {"vace_frames": [noise(1, 32, 3, 6, 8), noise(1, 32, 3, 6, 8, seed=1)], "vace_strength": [1.0, 0.5]}


def referred(frames=3, references=1):
    """A control whose first latent frames are references, as WanVaceToVideo makes it: nothing of them is to change."""
    from comfy.latent_formats import Wan21

    pictures = noise(1, 16, references, 6, 8, seed=4)
    reference = torch.cat([pictures, Wan21().process_out(torch.zeros_like(pictures))], 1)
    mask = torch.ones(1, 64, frames, 6, 8)
    mask[:, :, :references] = 0.0
    control = torch.cat([reference, noise(1, 32, frames - references, 6, 8)], 2)
    return {"vace_frames": [control], "vace_mask": [mask], "vace_strength": [1.0]}


def spoken():
    """Audio of each frame, as windows of 8 steps of Whisper's 5 layers."""
    return {**still(), "audio_embed": noise(1, 3, 8, 5, 1280)}


def sung():
    return {**still(), "audio_embed": noise(1, 25, 8, 12)}


def continued():
    return {**sung(), "reference_motion": noise(1, 16, 4, 8, 16), "control_video": noise(1, 16, 3, 8, 16)}


def posed():
    return {"pose_video_latent": noise(1, 16, 2, 6, 8)}


def driven():
    """Two references and a pose video at half the size."""
    references = [noise(1, 16, 1, 6, 8, seed=seed) for seed in range(2)]
    return seen(reference_latents=references, pose_video_latent=noise(1, 16, 3, 3, 4))


def masked():
    masks = {"ref_mask_28ch": noise(1, 5, 28, 6, 8), "driving_mask_28ch": noise(1, 3, 28, 3, 4), "ref_mask_flag": False}
    return {**driven(), **masks}


def danced():
    return seen(clip_vision_output_ref=clip(20, seed=1), audio_embed=noise(1, 9, 35), fps=30.0)


CLIP = {"self": 2, "cross": 2, "image": 2}
PLAIN = {"self": 2, "cross": 2}
ROWS, GRID = (1, 16, 3, 6, 8), (3, 3, 4)

t2v = maker("WAN21_T2V", model_type="t2v")
i2v = maker("WAN21_I2V", model_type="i2v", in_dim=36)
ti2v = maker("WAN22_T2V", model_type="t2v", in_dim=48, out_dim=48)
vace = maker("WAN21_Vace", model_type="vace", vace_layers=1, vace_in_dim=96)
s2v = maker("WAN22_S2V", model_type="s2v", audio_dim=8, audio_inject_layers=[0])
scail = maker("WAN21_SCAIL", model_type="scail", in_dim=20)
scail_2 = maker("WAN21_SCAIL2", model_type="scail2", in_dim=20)
humo = maker("WAN21_HuMo", model_type="humo")
dancer = maker("WAN22_WanDancer", model_type="wandancer", in_dim=36, audio_inject_layers=[0])


def case(variant, make, calls=PLAIN, conditioning=dict, latent=ROWS, grid=GRID, **more):
    return Case(variant, make, zeros(*latent), (1, TEXT, 16), calls, grid=grid, conditioning=conditioning, **more)


TEXT_ONLY = (
    case("Wan 2.1 T2V", t2v),
    case("Wan 2.1 T2V", t2v, name="odd size", latent=(1, 16, 3, 7, 9), grid=(3, 4, 5)),
    case("Wan 2.1 T2V", t2v, name="one frame", latent=(1, 16, 1, 6, 8), grid=(1, 3, 4)),
    case("Wan 2.1 T2V", t2v, name="batch of 2 with negative prompt", latent=(2, *ROWS[1:]), options={"cfg": 3.0}),
    case("Wan 2.1 T2V", t2v, name="reference without a place for it", conditioning=still),
    case("Wan 2.1 Phantom", t2v, conditioning=subjects, after=(("reference", 24),)),
    case("Wan 2.1 FlowRVS", maker("WAN21_FlowRVS", model_type="flow_rvs")),
    case("Wan 2.2 T2V 14B", t2v),
    case("Wan 2.2 I2V 14B", maker("WAN21_T2V", model_type="t2v", in_dim=36)),
    case("Wan 2.2 TI2V 5B", ti2v, latent=(1, 48, 3, 6, 8)),
    case("Wan 2.2 TI2V 5B", ti2v, name="start image", latent=(1, 48, 3, 6, 8),
         options={"noise_mask": first_kept()}),
    case("Bernini", t2v, conditioning=streams, after=(("reference", 36), ("reference", 6))),
    case("Wan 2.1 causal", maker("WAN21_CausalAR_T2V", model_type="t2v", causal_ar=True)),
)  # fmt: skip

WITH_IMAGE = (
    case("Wan 2.1 I2V", i2v, CLIP, seen),
    case("Wan 2.1 I2V", i2v, CLIP, seen, name="odd size", latent=(1, 16, 2, 5, 7), grid=(2, 3, 4)),
    case("Wan 2.1 I2V", i2v, {"self": 2, "cross": 4}, name="without CLIP"),
    case("Wan 2.1 I2V", i2v, {"self": 2, "cross": 4}, partial(seen, TEXT), name="as many image tokens as text"),
    case("Wan 2.1 FLF2V", maker("WAN21_I2V", model_type="i2v", in_dim=36, flf_pos_embed_token_number=514), CLIP,
         start_and_end),
)  # fmt: skip

CONTROLLED = (
    case("Wan 2.1 Fun Control", maker("WAN21_FunControl2V", model_type="i2v", in_dim=48, in_dim_ref_conv=16), CLIP,
         control, before=(("reference", 12),)),
    case("Wan 2.2 Fun Control", maker("WAN21_T2V", model_type="t2v", in_dim=52, in_dim_ref_conv=16),
         conditioning=control_with_mask, before=(("reference", 12),)),
    case("Wan 2.1 Fun Camera", maker("WAN21_Camera", model_type="camera", in_dim=32), CLIP, lambda: seen(**camera())),
    case("Wan 2.2 Fun Camera", maker("WAN22_Camera", model_type="camera_2.2", in_dim=36), conditioning=camera),
    case("Wan 2.1 VACE", vace, {"self": 3, "cross": 3}),
    case("Wan 2.1 VACE", vace, {"self": 4, "cross": 4}, two_controls, name="two controls"),
    case("Wan 2.1 VACE", vace, {"self": 3, "cross": 3}, referred, name="a reference", grid=(2, 3, 4), ahead=1,
         before=(("reference", 12),)),
    case("Wan 2.1 SCAIL", scail, CLIP, driven, before=(("reference", 24),), after=(("pose", 12),)),
    case("Wan 2.1 SCAIL", scail, CLIP, seen, name="nothing given"),
    case("Wan 2.1 SCAIL-2", scail_2, CLIP, masked, before=(("reference", 24),), after=(("pose", 12),)),
    case("Wan 2.2 Animate", maker("WAN22_Animate", model_type="animate", in_dim=36), CLIP, lambda: seen(**posed()),
         grid=(2, 3, 4), ahead=1, before=(("reference", 12),)),
)  # fmt: skip

WITH_AUDIO = (
    case("Wan 2.1 HuMo", humo, {**PLAIN, "video to audio": 2}, spoken, after=(("reference", 12),)),
    case("Wan 2.1 HuMo", humo, name="silent", latent=(1, 16, 2, 5, 6), grid=(2, 3, 3)),
    case("Wan 2.2 S2V", s2v, conditioning=sung, after=(("reference", 12),)),
    case("Wan 2.2 S2V", s2v, conditioning=continued, name="continued", latent=(1, 16, 3, 8, 16), grid=(3, 4, 8),
         after=(("reference", 12), ("motion", 48))),
    case("WanDancer", dancer, CLIP, danced, latent=(1, 16, 3, 8, 16), grid=(3, 4, 8)),
    case("WanDancer", dancer, CLIP, name="without CLIP, so without a single image token"),
)  # fmt: skip

CASES = (*TEXT_ONLY, *WITH_IMAGE, *CONTROLLED, *WITH_AUDIO)
