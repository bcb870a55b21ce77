"""The workflows that come with the pack: which nodes, which files, which values."""

from __future__ import annotations

from dataclasses import dataclass

from graph import Graph, Node, Socket

BYPASS = 4  # LiteGraph's node mode
HUB = "https://huggingface.co"
WAN_22 = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
WAN_21 = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
HUNYUAN_15 = f"{HUB}/Comfy-Org/HunyuanVideo_1.5_repackaged/resolve/main/split_files"


def model(url: str, directory: str) -> dict:
    """An entry for ComfyUI's dialog about missing models: it offers the download."""
    return {"name": url.rsplit("/", 1)[1], "url": url, "directory": directory}


LTX = model(f"{HUB}/Lightricks/LTX-2.3-fp8/resolve/main/ltx-2.3-22b-dev-fp8.safetensors", "checkpoints")
LTX_LORA = model(
    f"{HUB}/Comfy-Org/ltx-2.3/resolve/main/split_files/loras/"
    "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors",
    "loras",
)
LTX_UPSCALER = model(
    f"{HUB}/Lightricks/LTX-2.3/resolve/main/ltx-2.3-spatial-upscaler-x2-1.1.safetensors", "latent_upscale_models"
)
GEMMA = model(
    f"{HUB}/Comfy-Org/ltx-2/resolve/main/split_files/text_encoders/gemma_3_12B_it_fp4_mixed.safetensors",
    "text_encoders",
)
UMT5 = model(f"{WAN_21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders")
WAN_VAE = model(f"{WAN_22}/vae/wan_2.1_vae.safetensors", "vae")
WAN_5B = model(f"{WAN_22}/diffusion_models/wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models")
WAN_5B_VAE = model(f"{WAN_22}/vae/wan2.2_vae.safetensors", "vae")
WAN_EXPERTS = {
    (kind, noise): model(
        f"{WAN_22}/diffusion_models/wan2.2_{kind}_{noise}_noise_14B_fp8_scaled.safetensors", "diffusion_models"
    )
    for kind in ("t2v", "i2v")
    for noise in ("high", "low")
}
WAN_LORAS = {
    (kind, noise): model(f"{WAN_22}/loras/wan2.2_{kind}_lightx2v_4steps_lora_{v}_{noise}_noise.safetensors", "loras")
    for kind, v in (("t2v", "v1.1"), ("i2v", "v1"))
    for noise in ("high", "low")
}
HUNYUAN = model(f"{HUNYUAN_15}/diffusion_models/hunyuanvideo1.5_720p_t2v_fp16.safetensors", "diffusion_models")
HUNYUAN_VAE = model(f"{HUNYUAN_15}/vae/hunyuanvideo15_vae_fp16.safetensors", "vae")
QWEN = model(f"{HUNYUAN_15}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders")
BYT5 = model(f"{HUNYUAN_15}/text_encoders/byt5_small_glyphxl_fp16.safetensors", "text_encoders")

FIRST_STAGE = "1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"
SECOND_STAGE = "0.85, 0.725, 0.4219, 0.0"
SCENE = (
    "A paper boat with a candle drifts down a narrow canal at dusk. The camera glides beside it, close to the water; "
    "reflections of warm windows break and join again in its wake."
)
STREET = "A tram rounds a wet street corner at night, its light sweeping over the tiles of the house behind it."
ANIMATE = "The scene comes to life: a light wind moves everything that is loose, and the camera slowly moves closer."
BAD = "still picture, blurred details, overexposed, washed out, text, subtitles, watermark, deformed hands, flicker"

COMPARE_KERNELS = (
    "## Kernels\n\n**Video Attention Backend** swaps the attention of the model behind it. *auto* times the kernels "
    "that are installed on the first step and keeps the fastest. **Video Attention Report** says what ran.\n\n"
    "To turn it off: select Video Attention Backend and press Ctrl+B."
)


def loaded(graph: Graph, column: int, entry: dict, name: str = "unet_name", kind: str = "UNETLoader", **more) -> Node:
    """A loader of one file, with its download."""
    return graph.add(kind, column, {name: entry["name"], **more}, models=[entry])


def prompts(graph: Graph, column: int, clip: Node, positive: str, negative: str = BAD) -> tuple[Node, Node]:
    ask = {"clip": clip["CLIP"], "text": positive}
    avoid = {"clip": clip["CLIP"], "text": negative}
    return (
        graph.add("CLIPTextEncode", column, ask, title="Prompt"),
        graph.add("CLIPTextEncode", column, avoid, title="Negative prompt"),
    )


def backend(graph: Graph, column: int, source, **more) -> Node:
    return graph.add("VideoAttentionBackend", column, {"model": source, "backend": "auto", **more})


def save(graph: Graph, column: int, images, fps, name: str, **more) -> None:
    clip = graph.add("CreateVideo", column, {"images": images, "fps": fps, **more})
    graph.add("SaveVideo", column, {"video": clip["VIDEO"], "filename_prefix": f"video/{name}"})


# --- LTX-2.3 ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LtxParts:
    """What a graph of LTX-2.3 begins with."""

    checkpoint: Node
    sound: Node
    upscaler: Node
    length: Node
    rate: Node
    prompt: Node


def ltx(graph: Graph, start_image: bool) -> None:
    """Two stages, video and sound, in one sampler: half the size, then the latent upscaled and refined."""
    parts = ltx_parts(graph, ANIMATE if start_image else SCENE)
    small, second = ltx_latents(graph, parts, start_image)
    more = {"frames_number": parts.length[0], "frame_rate": parts.rate[0], "audio_vae": parts.sound[0]}
    audio = graph.add("LTXVEmptyLatentAudio", 1, more)
    latent = graph.add("LTXVConcatAVLatent", 3, {"video_latent": small, "audio_latent": audio[0]})
    samples = ltx_sampler(graph, parts, latent["latent"], second)
    report = graph.add("VideoAttentionReport", 5, {"latent": samples["output"]})
    done = graph.add("LTXVSeparateAVLatent", 5, {"av_latent": report["latent"]})
    tiles = {"tile_size": 768, "overlap": 64, "temporal_size": 4096, "temporal_overlap": 4}
    images = graph.add("VAEDecodeTiled", 5, {"samples": done["video_latent"], "vae": parts.checkpoint["VAE"], **tiles})
    heard = graph.add("LTXVAudioVAEDecode", 5, {"samples": done["audio_latent"], "audio_vae": parts.sound[0]})
    save(graph, 6, images["IMAGE"], parts.rate[0], f"LTX-2.3_{'i2v' if start_image else 't2v'}", audio=heard[0])
    size = "both of its sizes" if start_image else "half of its size"
    graph.note(
        6,
        "## LTX-2.3 in two stages, with sound\n\nOne sampler for both: the first stage makes half the size in 8 steps, "
        f"the second refines the upscaled latent in 3. Set {size}: multiples of 32. Length: 8 n + 1.\n\nThe "
        "distilled model runs at cfg 1, where a negative prompt does nothing; **Normalized Attention Guidance** makes "
        "it count: select it and press Ctrl+B.\n\nOne **Video Attention Backend** serves both stages; the report is "
        "the second's.\n\n" + COMPARE_KERNELS,
    )


def ltx_parts(graph: Graph, text: str) -> LtxParts:
    checkpoint = loaded(graph, 0, LTX, "ckpt_name", "CheckpointLoaderSimple")
    files = {"text_encoder": GEMMA["name"], "ckpt_name": LTX["name"]}
    clip = graph.add("LTXAVTextEncoderLoader", 0, files, models=[GEMMA, LTX])
    sound = loaded(graph, 0, LTX, "ckpt_name", "LTXVAudioVAELoader")
    upscaler = loaded(graph, 0, LTX_UPSCALER, "model_name", "LatentUpscaleModelLoader")
    length = graph.add("PrimitiveInt", 0, {"value": 121}, title="Length in frames: 8 n + 1")
    rate = graph.add("PrimitiveFloat", 0, {"value": 24.0}, title="Frames a second")
    positive, negative = prompts(graph, 1, clip, text)
    both = {"positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"], "frame_rate": rate[0]}
    prompt = graph.add("LTXVConditioning", 1, both)
    return LtxParts(checkpoint, sound, upscaler, length, rate, prompt)


def ltx_latents(graph: Graph, parts: LtxParts, start_image: bool) -> tuple[Socket, Socket | None]:
    """The first stage's video, and the second's where the start image must be in it again."""

    def empty(title: str, width: int, height: int) -> Socket:
        size = {"width": width, "height": height, "length": parts.length[0]}
        return graph.add("EmptyLTXVLatentVideo", 1, size, title=title)["LATENT"]

    def with_image(latent: Socket, strength: float) -> Socket:
        kept = {"vae": parts.checkpoint["VAE"], "image": image, "latent": latent, "strength": strength}
        return graph.add("LTXVImgToVideoInplace", 2, kept)["latent"]

    small = empty("Half of the final size", 640, 352)
    if not start_image:
        return small, None
    large = empty("The final size", 1280, 704)
    picture = graph.add("LoadImage", 2, {"image": "example.png"}, title="Start image")
    image = graph.add("LTXVPreprocess", 2, {"image": picture["IMAGE"], "img_compression": 18})["output_image"]
    return with_image(small, 0.7), with_image(large, 1.0)


def ltx_sampler(graph: Graph, parts: LtxParts, latent: Socket, second: Socket | None) -> Node:
    """The distilled model with its kernels, and the sampler of both stages."""
    lora = {"model": parts.checkpoint["MODEL"], "lora_name": LTX_LORA["name"], "strength_model": 0.5}
    distilled = graph.add("LoraLoaderModelOnly", 3, lora, models=[LTX_LORA])
    avoid = {"model": distilled["MODEL"], "negative": parts.prompt["negative"]}
    kind = "VideoAttentionNormalizedAttentionGuidance"
    guided = graph.add(kind, 3, avoid, title="Negative prompt at cfg 1: Ctrl+B", mode=BYPASS)
    chosen = backend(graph, 3, guided["MODEL"])
    levels = [
        graph.add("ManualSigmas", 4, {"sigmas": sigmas}, title=f"Noise levels of the {name} stage")["SIGMAS"]
        for name, sigmas in (("first", FIRST_STAGE), ("second", SECOND_STAGE))
    ]
    inputs = {
        "model_high": chosen["MODEL"], "positive": parts.prompt["positive"], "negative": parts.prompt["negative"],
        "latent": latent, "seed": 42, "cfg_high": 1.0, "cfg_low": 1.0, "between": "upscale model",
        "upscale_model": parts.upscaler[0], "vae": parts.checkpoint["VAE"], "sigmas": levels[0],
        "second_sigmas": levels[1],
    }  # fmt: skip
    return graph.add("VideoAttentionTwoStageSampler", 4, inputs | ({"second_latent": second} if second else {}))


# --- Wan 2.2 ---------------------------------------------------------------------------------------------------------


def wan_14b(graph: Graph, start_image: bool) -> None:
    """Two experts, each with its own kernels, in one sampler."""
    kind = "i2v" if start_image else "t2v"
    clip = loaded(graph, 0, UMT5, "clip_name", "CLIPLoader", type="wan")
    vae = loaded(graph, 0, WAN_VAE, "vae_name", "VAELoader")
    experts = []
    for noise in ("high", "low"):
        expert, lora = loaded(graph, 0, WAN_EXPERTS[kind, noise]), WAN_LORAS[kind, noise]
        few = {"model": expert["MODEL"], "lora_name": lora["name"]}
        fast = graph.add("LoraLoaderModelOnly", 2, few, title="4 steps: Ctrl+B", mode=BYPASS, models=[lora])
        shifted = graph.add("ModelSamplingSD3", 2, {"model": fast["MODEL"], "shift": 5.0})
        experts.append(backend(graph, 2, shifted["MODEL"]))
    positive, negative = prompts(graph, 1, clip, ANIMATE if start_image else STREET)
    texts = {"positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"]}
    size = {"width": 832, "height": 480, "length": 81}
    if start_image:
        picture = graph.add("LoadImage", 1, {"image": "example.png"}, title="Start image")
        placed = {**texts, "vae": vae["VAE"], **size, "start_image": picture["IMAGE"]}
        start = graph.add("WanImageToVideo", 1, placed)
        texts = {"positive": start["positive"], "negative": start["negative"]}
        latent = start["latent"]
    else:
        latent = graph.add("EmptyHunyuanLatentVideo", 1, size)["LATENT"]
    inputs = {
        "model_high": experts[0]["MODEL"], "model_low": experts[1]["MODEL"], **texts, "latent": latent, "seed": 42,
        "steps": 20, "boundary": 0.9 if start_image else 0.875,
    }  # fmt: skip
    samples = graph.add("VideoAttentionTwoStageSampler", 3, inputs)
    report = graph.add("VideoAttentionReport", 3, {"latent": samples["output"]})
    images = graph.add("VAEDecode", 4, {"samples": report["latent"], "vae": vae["VAE"]})
    save(graph, 4, images["IMAGE"], 16.0, f"Wan2.2_{kind}")
    graph.note(
        4,
        "## Wan 2.2 14B, two experts\n\nThe high-noise expert makes the steps above *boundary*, the low-noise expert "
        "the rest: one seed, one progress bar. Each has a **Video Attention Backend** of its own, so that they may "
        "differ.\n\nFor 4 steps: select both LoRA loaders, press Ctrl+B, set *steps* 4 and both *cfg* 1.\n\n"
        "Width and height: multiples of 16. Length: 4 n + 1.\n\n" + COMPARE_KERNELS,
    )


def wan_5b(graph: Graph) -> None:
    expert = loaded(graph, 0, WAN_5B)
    clip = loaded(graph, 0, UMT5, "clip_name", "CLIPLoader", type="wan")
    vae = loaded(graph, 0, WAN_5B_VAE, "vae_name", "VAELoader")
    picture = graph.add("LoadImage", 0, {"image": "example.png"}, title="Start image: Ctrl+B", mode=BYPASS)
    positive, negative = prompts(graph, 1, clip, STREET)
    size = {"width": 1280, "height": 704, "length": 121, "vae": vae["VAE"], "start_image": picture["IMAGE"]}
    latent = graph.add("Wan22ImageToVideoLatent", 1, size)
    shifted = graph.add("ModelSamplingSD3", 2, {"model": expert["MODEL"], "shift": 8.0})
    chosen = backend(graph, 2, shifted["MODEL"])
    inputs = {
        "model": chosen["MODEL"], "positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"],
        "latent": latent["LATENT"], "seed": 42, "cfg": 5.0, "sampler_name": "uni_pc",
    }  # fmt: skip
    samples = graph.add("VideoAttentionSampler", 3, inputs)
    report = graph.add("VideoAttentionReport", 3, {"latent": samples["output"]})
    images = graph.add("VAEDecode", 4, {"samples": report["latent"], "vae": vae["VAE"]})
    save(graph, 4, images["IMAGE"], 24.0, "Wan2.2_5B")
    graph.note(
        4,
        "## Wan 2.2 5B, text and image to video\n\nFor a start image: select its loader and press Ctrl+B.\n\n"
        "Width and height: multiples of 32. Length: 4 n + 1.\n\n" + COMPARE_KERNELS,
    )


# --- HunyuanVideo 1.5 ------------------------------------------------------------------------------------------------


def hunyuan(graph: Graph) -> None:
    net = loaded(graph, 0, HUNYUAN)
    files = {"clip_name1": QWEN["name"], "clip_name2": BYT5["name"], "type": "hunyuan_video_15"}
    clip = graph.add("DualCLIPLoader", 0, files, models=[QWEN, BYT5])
    vae = loaded(graph, 0, HUNYUAN_VAE, "vae_name", "VAELoader")
    positive, negative = prompts(graph, 1, clip, SCENE, "")
    latent = graph.add("EmptyHunyuanVideo15Latent", 1, {"width": 1280, "height": 720, "length": 121})
    shifted = graph.add("ModelSamplingSD3", 2, {"model": net["MODEL"], "shift": 7.0})
    chosen = backend(graph, 2, shifted["MODEL"])
    inputs = {
        "model": chosen["MODEL"], "positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"],
        "latent": latent["LATENT"], "seed": 42, "cfg": 6.0,
    }  # fmt: skip
    samples = graph.add("VideoAttentionSampler", 3, inputs)
    report = graph.add("VideoAttentionReport", 3, {"latent": samples["output"]})
    images = graph.add("VAEDecode", 4, {"samples": report["latent"], "vae": vae["VAE"]})
    save(graph, 4, images["IMAGE"], 24.0, "HunyuanVideo1.5")
    graph.note(
        4,
        "## HunyuanVideo 1.5\n\nText and video are one sequence here: the role *self* is that joint attention. When "
        "decoding takes too long or runs out of memory, use VAE Decode (Tiled).\n\n"
        "Width and height: multiples of 16. Length: 4 n + 1.\n\n" + COMPARE_KERNELS,
    )
