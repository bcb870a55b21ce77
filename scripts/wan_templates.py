"""The workflows of Wan 2.2 and HunyuanVideo 1.5."""

from __future__ import annotations

import layout
from graph import Graph, Node, Socket
from ltx_templates import ANIMATE, BAD, SCENE
from parts import (
    ATTENTION,
    BYPASS,
    HUB,
    MODELS,
    PROMPT,
    RESULT,
    SAMPLE,
    faster,
    loaded,
    lora,
    model,
    note,
    prompts,
    report,
    save,
    start_image,
)  # fmt: skip

WAN_22 = f"{HUB}/Comfy-Org/Wan_2.2_ComfyUI_Repackaged/resolve/main/split_files"
WAN_21 = f"{HUB}/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
HUNYUAN_15 = f"{HUB}/Comfy-Org/HunyuanVideo_1.5_repackaged/resolve/main/split_files"
UMT5 = model(f"{WAN_21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders")
VAE = model(f"{WAN_22}/vae/wan_2.1_vae.safetensors", "vae")
SMALL = model(f"{WAN_22}/diffusion_models/wan2.2_ti2v_5B_fp16.safetensors", "diffusion_models")
SMALL_VAE = model(f"{WAN_22}/vae/wan2.2_vae.safetensors", "vae")
EXPERTS = {
    (kind, noise): model(
        f"{WAN_22}/diffusion_models/wan2.2_{kind}_{noise}_noise_14B_fp8_scaled.safetensors", "diffusion_models"
    )
    for kind in ("t2v", "i2v")
    for noise in ("high", "low")
}
LORAS = {
    (kind, noise): model(f"{WAN_22}/loras/wan2.2_{kind}_lightx2v_4steps_lora_{v}_{noise}_noise.safetensors", "loras")
    for kind, v in (("t2v", "v1.1"), ("i2v", "v1"))
    for noise in ("high", "low")
}
HUNYUAN = model(f"{HUNYUAN_15}/diffusion_models/hunyuanvideo1.5_720p_t2v_fp16.safetensors", "diffusion_models")
HUNYUAN_VAE = model(f"{HUNYUAN_15}/vae/hunyuanvideo15_vae_fp16.safetensors", "vae")
QWEN = model(f"{HUNYUAN_15}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", "text_encoders")
BYT5 = model(f"{HUNYUAN_15}/text_encoders/byt5_small_glyphxl_fp16.safetensors", "text_encoders")
ANIMATE_2 = f"{HUB}/Comfy-Org/Wan-Animate-2/resolve/main"
ANIMATE_NET = model(f"{ANIMATE_2}/diffusion_models/wan_animate_2_distill_int8_convrot.safetensors", "diffusion_models")
ANIMATE_TEXT = model(f"{ANIMATE_2}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors", "text_encoders")
ANIMATE_VISION = model(f"{ANIMATE_2}/clip_vision/clip_vision_h.safetensors", "clip_vision")
ANIMATE_VAE = model(f"{ANIMATE_2}/vae/Wan2_1_VAE_bf16.safetensors", "vae")
DANCER = "A toy figure of a street dancer in a red hoodie, in a plain bright studio."
MOTION = "A man does an energetic street dance with fast turns."
STREET = "A tram rounds a wet street corner at night, its light sweeping over the tiles of the house behind it."
SPEED = "*quality* of **Faster**: *balanced* adds a sparse pattern and forecast steps, *fast* is for drafts."


def shifted(graph: Graph, source: Socket, shift: float, **looks) -> Socket:
    return graph.add("ModelSamplingSD3", MODELS, {"model": source, "shift": shift}, **looks)["MODEL"]


def wan_14b(graph: Graph, from_image: bool) -> None:
    """Two experts, each with its own attention, in one sampler."""
    kind = "i2v" if from_image else "t2v"
    wide = {MODELS: layout.PAIR, layout.NOTE: 280, SAMPLE: 320, RESULT: 420}
    graph.placing = {"columns": ((MODELS, ATTENTION), (PROMPT,), (SAMPLE,), (RESULT,)), "widths": wide}
    experts = experts_of(graph, kind)
    clip = loaded(graph, UMT5, "clip_name", "CLIPLoader", type="wan")
    vae = loaded(graph, VAE, "vae_name", "VAELoader")
    texts, latent = wan_start(graph, clip, vae, from_image)
    quick = [
        faster(graph, expert, title=f"Faster: {noise} noise", beside=noise == "low")
        for expert, noise in zip(experts, ("high", "low"), strict=True)
    ]
    inputs = {
        "model_high": quick[0]["MODEL"], "model_low": quick[1]["MODEL"], **texts, "latent": latent, "seed": 42,
        "steps": 20, "boundary": 0.9 if from_image else 0.875,
    }  # fmt: skip
    samples = graph.add("VideoAttentionTwoStageSampler", SAMPLE, inputs, title="Sampler of both experts")
    finish(graph, samples, vae, 16.0, f"Wan2.2_{kind}")
    note(
        graph,
        "Wan 2.2 14B, two experts",
        "The expert for high noise makes the steps above *boundary*, the one for low noise the rest: one seed, one "
        "progress bar. Each has its own **Faster**.",
        (
            "The start image and the prompt." if from_image else "The prompt.",
            "Width, height: multiples of 16. Length: 4 n + 1 at 16 a second, 81 in training.",
            SPEED,
            "In a hurry: switch both LoRAs on with Ctrl+B, set *steps* 4 and both *cfg* 1.",
        ),
    )


def experts_of(graph: Graph, kind: str) -> list[Socket]:
    """Both experts side by side: the file, the LoRA for 4 steps, the shift."""
    sides = [("high", {}), ("low", {"beside": True})]
    files = [
        graph.add(
            "UNETLoader", MODELS, {"unet_name": EXPERTS[kind, noise]["name"]}, title=f"Expert for {noise} noise",
            models=[EXPERTS[kind, noise]], **looks,
        )
        for noise, looks in sides
    ]  # fmt: skip
    quick = [
        lora(graph, file["MODEL"], LORAS[kind, noise], title="4 steps: Ctrl+B", mode=BYPASS, **looks)
        for file, (noise, looks) in zip(files, sides, strict=True)
    ]
    return [shifted(graph, few["MODEL"], 5.0, **looks) for few, (_, looks) in zip(quick, sides, strict=True)]


def wan_start(graph: Graph, clip: Node, vae: Node, from_image: bool) -> tuple[dict, Socket]:
    """The prompts and the latent, with a start image in both where there is one."""
    positive, negative = prompts(graph, clip, ANIMATE if from_image else STREET, BAD)
    texts = {"positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"]}
    size = {"width": 832, "height": 480, "length": 81}
    if not from_image:
        return texts, graph.add("EmptyHunyuanLatentVideo", PROMPT, size)["LATENT"]
    placed = {**texts, "vae": vae["VAE"], **size, "start_image": start_image(graph)["IMAGE"]}
    start = graph.add("WanImageToVideo", SAMPLE, placed)
    return {"positive": start["positive"], "negative": start["negative"]}, start["latent"]


def small(graph: Graph, width: int, height: int, length: int) -> tuple[Socket, Node, tuple[Node, Node], Socket]:
    """The 5B model, its VAE, its prompts, and its latent, with a start image at hand."""
    net = shifted(graph, loaded(graph, SMALL)["MODEL"], 8.0)
    clip = loaded(graph, UMT5, "clip_name", "CLIPLoader", type="wan")
    vae = loaded(graph, SMALL_VAE, "vae_name", "VAELoader")
    asked = prompts(graph, clip, STREET, BAD)
    picture = start_image(graph, mode=BYPASS)
    size = {"width": width, "height": height, "length": length, "vae": vae["VAE"], "start_image": picture["IMAGE"]}
    return net, vae, asked, graph.add("Wan22ImageToVideoLatent", PROMPT, size)["LATENT"]


def wan_5b(graph: Graph) -> None:
    """The small one, from text or with a start image."""
    net, vae, asked, latent = small(graph, 1280, 704, 121)
    samples = sample(graph, net, asked, latent, cfg=5.0, sampler_name="uni_pc")
    finish(graph, samples, vae, 24.0, "Wan2.2_5B")
    note(
        graph,
        "Wan 2.2 5B",
        "From text; with a start image too: select its loader and press Ctrl+B.",
        ("The prompt.", "Width, height: multiples of 32. Length: 4 n + 1 at 24 a second.", SPEED),
    )


def wan_long(graph: Graph) -> None:
    """The small one for 15 seconds: three times what it was trained for, in windows that go on from each other."""
    graph.placing = {
        "widths": {SAMPLE: 340, RESULT: 420},
        "columns": ((MODELS, ATTENTION), (PROMPT,), (SAMPLE,), (RESULT,)),
    }
    net, vae, asked, latent = small(graph, 832, 480, 361)
    values = {"cfg": 5.0, "sampler_name": "uni_pc", "method": "extend"}
    samples = sample(graph, net, asked, latent, "VideoAttentionLongSampler", **values)
    finish(graph, samples, vae, 24.0, "Wan2.2_5B_long")
    note(
        graph,
        "Wan 2.2 5B: 15 seconds",
        "Three times the trained length, in windows of that length. *extend* makes them one after the other, each "
        "going on from the end of the one before; the sampler says how many seconds each is and how many they share, "
        "and measures every joint: *seam* is about 1 where nothing shows.",
        (
            "The prompt; for a start image select its loader and press Ctrl+B.",
            "*length*: 4 n + 1 at 24 a second.",
            "*overlap* -1 is a quarter of a window: more holds the scene better and costs time. *blend* makes all "
            "windows at every step.",
            SPEED,
        ),
    )


def animate_2(graph: Graph) -> None:
    """Wan-Animate-2: the motion of a clip for the character of a picture."""
    graph.placing = {
        "widths": {PROMPT: layout.PAIR + 20, SAMPLE: 290, RESULT: 420, layout.NOTE: 280},
        "columns": ((MODELS, ATTENTION), (PROMPT,), (SAMPLE,), (RESULT,)),
    }
    net = shifted(graph, loaded(graph, ANIMATE_NET)["MODEL"], 5.0, folded=True)
    kept = graph.add("WanAnimate2Cache", MODELS, {"model": net, "device": "cpu", "dtype": "int8"})
    clip = loaded(graph, ANIMATE_TEXT, "clip_name", "CLIPLoader", type="wan")
    vision = loaded(graph, ANIMATE_VISION, "clip_name", "CLIPVisionLoader")
    vae = loaded(graph, ANIMATE_VAE, "vae_name", "VAELoader")
    start, driver = motion(graph, clip, vision, vae)
    quick = faster(graph, kept["MODEL"], start["latent"], shows=60)
    inputs = {
        "model": quick["MODEL"], "positive": start["positive"], "negative": start["negative"],
        "latent": start["latent"], "seed": 42, "steps": 10, "cfg": 1.0, "sampler_name": "lcm",
        "scheduler_name": "simple",
    }  # fmt: skip
    samples = graph.add("VideoAttentionSampler", SAMPLE, inputs)
    told = report(graph, samples["output"])
    cut = {"samples": told["latent"], "trim_amount": start["trim_latent"]}
    clean = graph.add("TrimVideoLatent", RESULT, cut, folded=True)
    images = graph.add("VAEDecode", RESULT, {"samples": clean["LATENT"], "vae": vae["VAE"]})
    save(graph, images["IMAGE"], driver["fps"], "Wan-Animate-2", audio=driver["audio"])
    note(
        graph,
        "Wan-Animate-2: motion of a clip",
        "The character of your picture moves as your clip does, in 10 steps, with the clip's sound. **Needs ComfyUI "
        "0.33 or newer.**\n\n**Faster** changes the kernel here and no more. For a pattern put **Sparse "
        "Pattern** behind it: reference and motion stay exact.",
        (
            "The picture, the clip, and the prompt: who it is, and where.",
            "*length*: 4 n + 1 frames of the clip. Width, height: multiples of 16.",
            "**WanAnimate2Cache** keeps the clip's part in memory, some 6 GB in int8 at this size. It is slower "
            "without.",
        ),
    )


def motion(graph: Graph, clip: Node, vision: Node, vae: Node) -> tuple[Node, Node]:
    """What a clip and a picture give to Wan-Animate-2: its conditioning, and the clip's parts."""
    picture = graph.add("LoadImage", PROMPT, {"image": "example.png"}, title="The character")
    file = graph.add("LoadVideo", PROMPT, {"file": "example.mp4"}, title="The motion", beside=True)
    driver = graph.add("GetVideoComponents", PROMPT, {"video": file["VIDEO"]}, folded=True)
    one = {"image": driver["images"], "length": 1}
    first = graph.add("ImageFromBatch", PROMPT, one, title="Its first frame", folded=True, beside=True)
    seen = [
        graph.add(
            "CLIPVisionEncode", PROMPT, {"clip_vision": vision[0], "image": image["IMAGE"], "crop": "none"},
            folded=True, beside=image is first,
        )
        for image in (picture, first)
    ]  # fmt: skip
    who, moves = (
        graph.add("CLIPTextEncode", PROMPT, {"clip": clip["CLIP"], "text": text}, title=title, color=layout.GREEN)
        for title, text in (("Prompt", DANCER), ("The motion in words", MOTION))
    )
    nothing = graph.add("ConditioningZeroOut", PROMPT, {"conditioning": who["CONDITIONING"]})
    inputs = {
        "positive": who["CONDITIONING"], "negative": nothing["CONDITIONING"], "vae": vae["VAE"], "width": 832,
        "height": 480, "length": 81, "reference_image": picture["IMAGE"], "pose_video": driver["images"],
        "clip_vision_output": seen[0][0], "positive_pose": moves["CONDITIONING"], "clip_vision_output_pose": seen[1][0],
    }  # fmt: skip
    return graph.add("WanAnimate2ToVideo", SAMPLE, inputs), driver


def hunyuan(graph: Graph) -> None:
    """HunyuanVideo 1.5 from text."""
    net = shifted(graph, loaded(graph, HUNYUAN)["MODEL"], 7.0)
    files = {"clip_name1": QWEN["name"], "clip_name2": BYT5["name"], "type": "hunyuan_video_15"}
    clip = graph.add("DualCLIPLoader", MODELS, files, models=[QWEN, BYT5])
    vae = loaded(graph, HUNYUAN_VAE, "vae_name", "VAELoader")
    asked = prompts(graph, clip, SCENE, "")
    latent = graph.add("EmptyHunyuanVideo15Latent", PROMPT, {"width": 1280, "height": 720, "length": 121})["LATENT"]
    samples = sample(graph, net, asked, latent, cfg=6.0)
    finish(graph, samples, vae, 24.0, "HunyuanVideo1.5")
    note(
        graph,
        "HunyuanVideo 1.5: text to video",
        "Text and video are one sequence here: the role *self* is that joint attention. When decoding runs out of "
        "memory, use VAE Decode (Tiled).",
        ("The prompt.", "Width, height: multiples of 16. Length: 4 n + 1 at 24 a second.", SPEED),
    )


def sample(graph: Graph, net: Socket, asked: tuple, latent: Socket, kind="VideoAttentionSampler", **values) -> Node:
    """The dial and the sampler behind it."""
    positive, negative = (text["CONDITIONING"] for text in asked)
    quick = faster(graph, net, latent)
    inputs = {"model": quick["MODEL"], "positive": positive, "negative": negative, "latent": latent, "seed": 42}
    return graph.add(kind, SAMPLE, {**inputs, **values})


def finish(graph: Graph, samples: Node, vae: Node, rate: float, name: str) -> None:
    told = report(graph, samples["output"])
    images = graph.add("VAEDecode", RESULT, {"samples": told["latent"], "vae": vae["VAE"]})
    save(graph, images["IMAGE"], rate, name)
