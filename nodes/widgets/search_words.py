"""The words that people type to find our nodes, beside their names: what the page's search reads of a node.

The page ranks a node whose name has the word above all that have it here alone: what is ours stands in the name.
"""

import json
from functools import cache
from pathlib import Path

# Written by scripts/write_locales.py: node id -> the words below in every other language.
OTHERS = Path(__file__).resolve().parents[2] / "locales" / "search_words.json"

MODELS = "ltx, wan, hunyuan, minimax, h3"
# Two words together, in any order, have to stand in one entry.
FAST_MODELS = "faster wan ltx hunyuan minimax"
WORDS = {
    "VideoAttentionBackend": (
        "sage, sageattention, flash attention, sdpa, xformers, triton, fp8, int8, quantized attention, "
        "attention override, faster, speed up, slow, accelerate, optimize, memory, vram, oom, out of memory, "
        f"black frames, black video, nan, {FAST_MODELS}, {MODELS}"
    ),
    "VideoAttentionBenchmark": (
        "benchmark, profile, attention speed, slow, compare attention, sage benchmark, fastest attention"
    ),
    "VideoAttentionBoost": (
        "faster, speed up, speed, slow, accelerate, optimize, one click, boost, turbo, performance, sage, "
        f"sageattention, flash attention, sparse, cache, teacache, easycache, step skip, {FAST_MODELS}, {MODELS}"
    ),
    "VideoAttentionCalibrate": (
        "auto tune attention, error budget, attention plan, calibrate sparse attention, optimize, faster"
    ),
    "VideoAttentionClear": "disable sage attention, reset attention, remove attention override, default attention",
    "VideoAttentionCompare": "a/b, ab test, psnr, ssim, compare videos, image difference, side by side, wipe",
    "VideoAttentionDemoPrompt": "demo text, demo conditioning, coloured shape",
    "VideoAttentionDemoScenePrompt": "demo text, demo conditioning, two shapes, scene",
    "VideoAttentionDemoVAE": "demo vae, dct decoder",
    "VideoAttentionEnhance": (
        "enhance, enhance a video, enhance-a-video, feta, cross frame, temporal consistency, consistency, "
        "flicker, deflicker, steady"
    ),
    "VideoAttentionInfo": "model info, tokens, attention share, heads, amdahl, is my model supported, why slow",
    "VideoAttentionLoadModel": "load diffusion model, unet loader, sage loader, load model with sage attention",
    "VideoAttentionLoadPlan": "import plan, apply plan",
    "VideoAttentionLongSampler": (
        "long video, longer video, context windows, extend video, looping sampler, loop, freenoise, memory, "
        f"vram, oom, out of memory, {MODELS}"
    ),
    "VideoAttentionMaps": "attention map, heat map, heatmap, where does the model look, token heat, visualise",
    "VideoAttentionNormalizedAttentionGuidance": (
        "nag, normalized attention guidance, negative prompt without cfg, distilled negative"
    ),
    "VideoAttentionPattern": (
        "sparse attention, radial attention, sliding tile, spatial attention, temporal attention, "
        "neighborhood attention, block sparse, vsa, lvsa, jenga, draft attention, faster, speed up, long video"
    ),
    "VideoAttentionPerturbedAttentionGuidance": "pag, perturbed attention guidance, self attention guidance",
    "VideoAttentionReport": (
        "which attention, slow, why slow, is sage active, attention statistics, fallback reason, profile, "
        "progress, black frames"
    ),
    "VideoAttentionReuse": (
        "pyramid attention broadcast, pab, attention cache, cache, reuse attention, skip attention, fastercache, "
        "faster, speed up"
    ),
    "VideoAttentionRiflex": "riflex, length extrapolation, longer video, long video, rope, repetition, loop",
    "VideoAttentionSampler": f"ksampler, sample video, video sampler, denoise video, black frames, nan, {MODELS}",
    "VideoAttentionSamplerAdvanced": "samplercustomadvanced, custom sampler, guider, noise, sigmas",
    "VideoAttentionSavePlan": "export plan, share plan, attention preference, comfy_attention",
    "VideoAttentionSchedule": (
        "start percent, end percent, which steps, sigma plot, step table, sigmas, step to percent"
    ),
    "VideoAttentionSpatiotemporalGuidance": (
        "stg, spatiotemporal skip guidance, skip layer guidance, slg, perturbed attention, detail"
    ),
    "VideoAttentionSeveralComfyUIs": "several machines, two computers, cluster, distributed, network, multi node",
    "VideoAttentionSeveralGPUs": (
        "multi gpu, multigpu, several gpus, two gpus, dual gpu, sequence parallel, context parallel, ulysses, xdit, "
        "raylight, parallel, nvlink"
    ),
    "VideoAttentionStrength": (
        "attention temperature, cross frame, enhance a video, feta, temporal consistency, flicker"
    ),
    "VideoAttentionTemporalBlocks": "animatediff, motion module, temporal attention, consistency, flicker",
    "VideoAttentionTemporalMetrics": (
        "flicker, temporal consistency, consistency, warp error, video quality, identity drift, measure"
    ),
    "VideoAttentionTwoStageSampler": (
        "wan 2.2, moe, moe sampler, high noise low noise, two experts, two stage, ksampler advanced, latent "
        "upscale, hires fix"
    ),
    "VideoAttentionVerify": "verify plan, compare with exact attention, noise floor, psnr ssim, quality check",
}


def of(node_id: str) -> list[str]:
    """Lists the words of a node in English."""
    return WORDS[node_id].split(", ")


def of_other_languages(node_id: str) -> list[str]:
    """Lists the words of a node in all languages but English; none without the file."""
    return _others().get(node_id, [])


@cache
def _others() -> dict[str, list[str]]:
    return json.loads(OTHERS.read_text(encoding="utf-8")) if OTHERS.exists() else {}
