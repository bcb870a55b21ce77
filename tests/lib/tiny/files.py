"""Files of tiny random models, under the names and in the folders that the workflows ask for.

Each file goes through ComfyUI's own loader node: the header's configuration makes the loader build its own class small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch

from . import ltx2, wan, wan_animate2
from .case import fill

LTX = "ltx-2.3-22b-dev-fp8.safetensors"
LTX_25 = "ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors"
LTX_25_VAE, LTX_25_SOUND = "ltx-2.5-video-vae-bf16.safetensors", "ltx-2.5-audio-vae-bf16.safetensors"
LTX_25_UPSCALER = "ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors"
LTX_UPSCALER = "ltx-2.3-spatial-upscaler-x2-1.1.safetensors"
LTX_LORA = "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors"
WAN_EXPERTS = tuple(
    f"wan2.2_{kind}_{noise}_noise_14B_fp8_scaled.safetensors" for kind in ("t2v", "i2v") for noise in ("high", "low")
)
WAN_5B = "wan2.2_ti2v_5B_fp16.safetensors"
WAN_VAE = ("wan_2.1_vae.safetensors", "Wan2_1_VAE_bf16.safetensors")
ANIMATE_2 = "wan_animate_2_distill_int8_convrot.safetensors"
H3 = ("minimax_h3_fl2va_pruned_int8_convrot.safetensors", "minimax_h3_ref2va_pruned_int8_convrot.safetensors")
FAST_H3 = "fastvideo_fasth3_8step_v2_pruned_int8_convrot.safetensors"
HUNYUAN = "hunyuanvideo1.5_720p_t2v_fp16.safetensors"

LTX_VAE = {
    "dims": 3, "in_channels": 3, "out_channels": 3, "latent_channels": 128, "scaling_factor": 1.0,
    "encoder_blocks": [
        ["compress_space_res", {"multiplier": 2}], ["compress_time_res", {"multiplier": 2}],
        ["compress_all_res", {"multiplier": 2}], ["compress_all_res", {"multiplier": 2}],
    ],
    "decoder_blocks": [
        ["compress_all", {"residual": True, "multiplier": 2}], ["compress_all", {"residual": True, "multiplier": 2}],
        ["compress_all", {"residual": True, "multiplier": 2}], ["res_x", {"num_layers": 1, "inject_noise": False}],
    ],
    "norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform", "use_quant_conv": False,
    "causal_decoder": False, "timestep_conditioning": False, "encoder_base_channels": 8, "decoder_base_channels": 8,
}  # fmt: skip
SOUND = {
    "double_z": True, "mel_bins": 64, "z_channels": 8, "resolution": 256, "downsample_time": False, "in_channels": 2,
    "out_ch": 2, "ch": 32, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    "mid_block_add_attention": False, "norm_type": "pixel", "causality_axis": "height",
}  # fmt: skip
LTX_AUDIO = {
    "model": {"params": {"ddconfig": SOUND, "sampling_rate": 16000}},
    "preprocessing": {"stft": {"filter_length": 1024, "hop_length": 160}},
}
VOCODER = {"upsample_initial_channel": 32, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]]}
UPSCALER = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}


def filled(module: torch.nn.Module) -> dict:
    """The weights of a module after `fill`."""
    fill(module)
    return {name: weight.contiguous() for name, weight in module.state_dict().items()}


def save(path: Path, weights: dict, config: dict | None = None) -> None:
    import safetensors.torch

    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = None if config is None else {"config": json.dumps(config)}
    safetensors.torch.save_file({k: v.clone() for k, v in weights.items()}, path, metadata=metadata)


def prefixed(prefix: str, weights: dict) -> dict:
    return {f"{prefix}{name}": weight for name, weight in weights.items()}


def write_ltx(models: Path) -> None:
    """LTX-2.3's checkpoint: transformer, decoders of video and sound; the upscaler; a LoRA of one layer. LTX-2.5: the
    same in files of their own; what tells it from LTX-2.3 is left alone by a ComfyUI that does not know it.
    """
    import comfy.ops
    from comfy.ldm.lightricks.latent_upsampler import LatentUpsampler
    from comfy.ldm.lightricks.vae.audio_vae import AudioVAE
    from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE

    config = {"transformer": ltx2.CONFIG_2_3, "vae": LTX_VAE, "audio_vae": LTX_AUDIO, "vocoder": VOCODER}
    sound = filled(AudioVAE({"config": json.dumps(config)}))
    sound = {name.replace("autoencoder.", "audio_vae.", 1): weight for name, weight in sound.items()}
    seen = filled(VideoVAE(version=2, config=LTX_VAE))
    net = ltx2.model_2_3().model.diffusion_model.state_dict()
    whole = {**prefixed("model.diffusion_model.", net), **prefixed("vae.", seen), **sound}
    save(models / "checkpoints" / LTX, whole, config)
    newer = ltx2.model_2_5().model.diffusion_model.state_dict()
    save(models / "diffusion_models" / LTX_25, newer, {"transformer": ltx2.config_2_5()})
    save(models / "vae" / LTX_25_VAE, seen, config)
    save(models / "vae" / LTX_25_SOUND, sound, config)
    upscaler = LatentUpsampler.from_config(UPSCALER, operations=comfy.ops.disable_weight_init)
    for name in (LTX_UPSCALER, LTX_25_UPSCALER):
        save(models / "latent_upscale_models" / name, filled(upscaler), UPSCALER)
    width = ltx2.CONFIG_2_3["num_attention_heads"] * ltx2.CONFIG_2_3["attention_head_dim"]
    layer = "diffusion_model.transformer_blocks.0.attn1.to_q"
    lora = {f"{layer}.lora_A.weight": torch.ones(1, width), f"{layer}.lora_B.weight": torch.ones(width, 1)}
    save(models / "loras" / LTX_LORA, lora)


def write_wan(models: Path) -> None:
    """Both experts of Wan 2.2 14B for text and for an image, the 5B, Wan-Animate-2, and the decoder of Wan 2.1."""
    import comfy.supported_models
    from comfy.ldm.wan.vae import WanVAE

    def expert(name: str, model_type: str, **channels):
        config = {**wan.BASE, "model_type": model_type, **channels}
        weights = wan.build("WAN21_T2V", config).model.diffusion_model.state_dict()
        save(models / "diffusion_models" / name, weights, {"transformer": config})

    for name in WAN_EXPERTS:
        expert(name, "t2v", in_dim=16 if "t2v" in name else 36)
    expert(WAN_5B, "t2v", in_dim=48, out_dim=48)
    if hasattr(comfy.supported_models, "WAN_Animate2"):
        weights = wan_animate2.model().model.diffusion_model.state_dict()
        save(models / "diffusion_models" / ANIMATE_2, weights, {"transformer": wan_animate2.CONFIG})
    shape = {
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attn_scales": [],
        "temperal_downsample": [False, True, True],
    }
    vae = WanVAE(dim=4, z_dim=16, image_channels=3, conv_out_channels=3, dropout=0.0, **shape)
    for name in WAN_VAE:
        save(models / "vae" / name, filled(vae))


def write_hunyuan(models: Path) -> None:
    """HunyuanVideo 1.5. ComfyUI finds its shape by the weights alone, so that one head of 128 channels is the least."""
    from . import hunyuan

    config = {
        **hunyuan.CONFIG, **hunyuan.NEWER, **hunyuan.V15, "hidden_size": 128, "axes_dim": [16, 56, 56],
        "mlp_ratio": 4.0, "depth": 1, "depth_single_blocks": 1, "context_in_dim": 16, "vision_in_dim": 1152,
    }  # fmt: skip
    weights = hunyuan.build("HunyuanVideo15", config).model.diffusion_model.state_dict()
    save(models / "diffusion_models" / HUNYUAN, {k: v.half() for k, v in weights.items()})


def write_minimax(models: Path) -> None:
    """MiniMax-H3 for first frames and for references, and FastH3 with the gates that older ComfyUIs leave alone."""
    from . import minimax

    made = {**dict.fromkeys(H3, minimax.model), FAST_H3: minimax.fast_h3}
    for name, model in made.items():
        weights = model().model.diffusion_model.state_dict()
        save(models / "diffusion_models" / name, weights, {"transformer": minimax.CONFIG})


def write(models: Path, named: Iterable[tuple[str, str]]) -> None:
    """Every file in `named`, (folder, name). What has no small form is there by name alone, so that a list shows it."""
    with torch.inference_mode():
        write_ltx(models)
        write_wan(models)
        write_hunyuan(models)
        write_minimax(models)
    for folder, name in named:
        if not (models / folder / name).exists():
            save(models / folder / name, {})
