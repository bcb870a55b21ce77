"""The tiny model for the file that a workflow's loader names."""

from __future__ import annotations

from functools import partial

from tiny import cogvideox, hunyuan, kandinsky5, ltx2, ltxv, minimax, seedvr2, svd, wan, wan_animate2
from tiny.case import build

LOTUS = {**svd.UNET, "model_channels": 32, "use_linear_in_transformer": False, "adm_in_channels": None}


def _wan(kind: str, model_type: str, **config):
    return wan.maker(kind, model_type=model_type, **config)


# Part of the file's name, in small letters -> what makes the model; the first that fits.
MODELS = (
    ("seedvr2", seedvr2.model),
    ("lotus", partial(build, "SD15", {**LOTUS, "context_dim": 1024})),
    ("svd", svd.svd),
    ("sd_xl", svd.sdxl),
    ("void", partial(build, "CogVideoX_Inpaint", {**cogvideox.CONFIG, "in_channels": 48})),
    ("h3", minimax.model),
    ("kandinsky", kandinsky5.video),
    ("capybara", hunyuan.v15),
    ("hunyuanvideo1.5_720p", hunyuan.v15),
    ("hunyuanvideo1.5_1080p_sr", hunyuan.v15_sr),
    ("hunyuan_video_t2v", hunyuan.t2v),
    ("ltx-2.5", ltx2.model_2_5),
    ("ltx-2.3", ltx2.model_2_3),
    ("ltx-2", ltx2.model),
    ("ltx-video", ltxv.model),
    ("animate_2", wan_animate2.model),
    ("scail_2", wan.scail_2),
    ("humo", wan.humo),
    ("dancer", wan.dancer),
    ("s2v", wan.s2v),
    ("vace", wan.vace),
    ("causal", _wan("WAN21_CausalAR_T2V", "t2v", causal_ar=True)),
    ("fun_camera_v1.1", _wan("WAN21_Camera", "camera", in_dim=32)),
    ("fun_camera", _wan("WAN22_Camera", "camera_2.2", in_dim=36)),
    ("fun_control_5b", _wan("WAN22_T2V", "t2v", in_dim=148, out_dim=48, in_dim_ref_conv=48)),
    ("fun_inpaint_5b", _wan("WAN22_T2V", "t2v", in_dim=100, out_dim=48)),
    ("ti2v_5b", wan.ti2v),
    ("wan2.1_fun_control", _wan("WAN21_FunControl2V", "i2v", in_dim=48)),
    ("wan2.2_fun_control", _wan("WAN21_T2V", "t2v", in_dim=52, in_dim_ref_conv=16)),
    ("wan2.1_fun_inp", wan.i2v),
    ("wan2.2_fun_inpaint", _wan("WAN21_T2V", "t2v", in_dim=36)),
    ("wan2.2_i2v", _wan("WAN21_T2V", "t2v", in_dim=36)),
    ("flf2v", _wan("WAN21_I2V", "i2v", in_dim=36, flf_pos_embed_token_number=514)),
    ("i2v", wan.i2v),
    ("wanmove", wan.i2v),
    ("t2v", wan.t2v),
    ("bernini", wan.t2v),
)
# Part of the text encoder's file and type -> channels of the embedding, of the pooled output.
TEXTS = (
    (("ltx-2.3", "ltx-2.5"), (80, 8)),
    (("kandinsky",), (16, 24)),
    (("sd_xl",), (16, 16)),
    (("hunyuan", "cogvideox"), (8, 8)),
)
# Part of the file's name -> channels, spatial and temporal step.
VAES = (
    ("wan2.2_vae", (48, 16, 4)),
    ("hunyuanvideo15", (32, 16, 4)),
    ("minimax_h3_video", (24, 16, 4)),
    ("ltx", (128, 32, 8)),
    ("svd", (4, 8, 1)),
    ("vae-ft", (4, 8, 1)),
    ("sd_xl", (4, 8, 1)),
)


def maker(file: str):
    """What makes the model; None where there is no tiny one."""
    return next((make for part, make in MODELS if part in file.lower()), None)


def text(name: str) -> tuple[int, int]:
    return next((shape for parts, shape in TEXTS if any(part in name.lower() for part in parts)), (16, 8))


def latents(name: str) -> tuple[int, int, int]:
    return next((shape for part, shape in VAES if part in name.lower()), (16, 8, 4))
