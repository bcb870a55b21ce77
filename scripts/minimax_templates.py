"""The workflows of MiniMax-H3: one model for video and sound, from text, from images, from references; FastH3."""

from __future__ import annotations

import layout
from graph import Graph, Node
from parts import BYPASS, HUB, MODELS, PROMPT, RESULT, SAMPLE, faster, loaded, lora, model, note, report, save

H3 = f"{HUB}/Comfy-Org/MiniMax-H3/resolve/main"
TEXT_ENCODER = model(f"{H3}/text_encoders/qwen3vl_32b_minimax_h3_nvfp4_awq.safetensors", "text_encoders")
VAE = model(f"{H3}/vae/minimax_h3_video_vae_int8_convrot.safetensors", "vae")
SOUND = model(f"{H3}/vae/minimax_h3_audio_vae_fp32.safetensors", "vae")
FRAMES = model(f"{H3}/diffusion_models/minimax_h3_fl2va_pruned_int8_convrot.safetensors", "diffusion_models")
REFERENCES = model(f"{H3}/diffusion_models/minimax_h3_ref2va_pruned_int8_convrot.safetensors", "diffusion_models")
FAST = model(
    f"{HUB}/FastVideo/FastVideo-FastH3-Comfy/resolve/main/diffusion_models/"
    "fastvideo_fasth3_8step_v2_pruned_int8_convrot.safetensors",
    "diffusion_models",
)
TURBO = model(
    f"{HUB}/lightx2v/Minimax-h3-Turbo/resolve/main/minimax_h3_fl2v_turbo_8step_v1.0_comfyui_bf16.safetensors", "loras"
)
TURBO_REFERENCES = model(f"{H3}/loras/minimax_h3_ref2v_turbo_4step_v0.1_comfyui_bf16.safetensors", "loras")

SIZE = {"width": 864, "height": 480, "length": 124}
BAKERY = (
    "A small bakery before sunrise, warm light, shallow depth of field. A baker slides a wooden peel under a loaf and "
    "draws it out of the stone oven; steam rises past the window.\n\nSound: the crackle of the crust, a fan, and she "
    'says quietly: "First one of the day."'
)
COME_ALIVE = (
    "The picture of <Picture 1> comes to life: a light wind moves what is loose, and the camera slowly comes near.\n\n"
    "Sound: wind, far voices, nothing else."
)
MEET = (
    "What <Picture 1> shows stands on a table beside what <Picture 2> shows, in soft daylight. The camera goes around "
    "both in one slow turn.\n\nSound: a quiet room, a clock."
)
STEPS_AT = "*width*, *height*: multiples of 32, up to 1344 x 768. *length*: 17 n + 5 frames at 24 a second, 124 to 362."
SPEED = "*quality* of **Faster**: *balanced* adds a sparse pattern and forecast steps, *fast* is for drafts."


def h3(graph: Graph, kind: str) -> None:
    """MiniMax-H3. kind: "t2v", "i2v" or "r2v"."""
    refers = kind == "r2v"
    net = loaded(graph, REFERENCES if refers else FRAMES)
    few = "4 steps: Ctrl+B" if refers else "6 steps: Ctrl+B"
    turbo = lora(graph, net["MODEL"], TURBO_REFERENCES if refers else TURBO, title=few, mode=BYPASS)
    if refers:
        graph.placing = {"widths": layout.WIDE | {PROMPT: layout.PAIR, RESULT: 400}}
    asked, vae, sound = from_references(graph) if refers else from_text(graph, images=kind == "i2v")
    finish(graph, turbo, asked, vae, sound, f"MiniMax-H3_{kind}", steps=20)
    name, what, change = TOLD[kind]
    note(
        graph,
        f"MiniMax-H3: {name}",
        f"{what} Picture and sound come from one model.",
        (change, STEPS_AT, SPEED, f"In a hurry: switch *{few.split(':')[0]}* on and set *steps* to {few[0]}."),
    )


TOLD = {
    "t2v": (
        "text to video",
        "Describe the scene, the camera and the sound.",
        "The prompt: what is heard stands in it too.",
    ),
    "i2v": (
        "image to video",
        "Goes on from a first frame. To end at a certain one too, link *last_frame*.",
        "The start image, and the prompt: *<Picture 1>* is that image.",
    ),
    "r2v": (
        "references to video",
        "Puts people and things of your pictures into a new scene.",
        "The pictures, and the prompt: *<Picture 1>*, *<Picture 2>* in the order of the sockets. Clips and voices "
        "can be linked as well: *<Video 1>*, *<Audio 1>*.",
    ),
}  # fmt: skip


def fast_h3(graph: Graph) -> None:
    """FastH3: distilled to 8 steps, from text alone."""
    net = loaded(graph, FAST)
    asked, vae, sound = from_text(graph, images=False)
    shifts = {"model": net["MODEL"], "shift_video": 10.0, "shift_audio": 3.0}
    shifted = graph.add("MiniMaxH3SigmaShift", MODELS, shifts)
    finish(graph, shifted, asked, vae, sound, "FastH3", steps=8)
    note(
        graph,
        "FastH3: text to video in 8 steps",
        "MiniMax-H3 distilled to 8 steps, picture and sound. From text alone: for images take MiniMax-H3.\n\nIt was "
        "trained with a sparse attention of its own (VSA), which newer ComfyUIs run by *Model Sparse Attention*; here "
        "it runs dense with the fastest kernel.",
        ("The prompt: what is heard stands in it too.", STEPS_AT, "*steps* stays 8 and *cfg* 1."),
    )


def ends(graph: Graph) -> tuple[Node, Node, Node]:
    """The prompt's model, and the decoders of video and sound."""
    clip = loaded(graph, TEXT_ENCODER, "clip_name", "CLIPLoader", type="minimax")
    return clip, loaded(graph, VAE, "vae_name", "VAELoader"), loaded(graph, SOUND, "vae_name", "VAELoader")


def from_text(graph: Graph, images: bool) -> tuple[Node, Node, Node]:
    """The prompt's node and both decoders."""
    clip, vae, sound = ends(graph)
    asked = {"clip": clip["CLIP"], "vae": vae["VAE"], "prompt": COME_ALIVE if images else BAKERY, **SIZE}
    if images:
        asked["first_frame"] = picture(graph, "First frame")["IMAGE"]
    return graph.add("MiniMaxH3ImageToVideo", PROMPT, asked, title="Prompt", color=layout.GREEN), vae, sound


def from_references(graph: Graph) -> tuple[Node, Node, Node]:
    """The same, with two pictures of what shall be seen."""
    clip, vae, sound = ends(graph)
    pictures = picture(graph, "Picture 1"), picture(graph, "Picture 2", beside=True)
    shown = {f"ref_images.ref_image_{index}": made["IMAGE"] for index, made in enumerate(pictures)}
    asked = {"clip": clip["CLIP"], "vae": vae["VAE"], "audio_vae": sound["VAE"], "prompt": MEET, **SIZE, **shown}
    return graph.add("MiniMaxH3ReferenceToVideo", PROMPT, asked, title="Prompt", color=layout.GREEN), vae, sound


def picture(graph: Graph, title: str, **looks) -> Node:
    return graph.add("LoadImage", PROMPT, {"image": "example.png"}, title=title, **looks)


def finish(graph: Graph, source: Node, asked: Node, vae: Node, sound: Node, name: str, steps: int) -> None:
    """Attention, sampling and the clip with its sound."""
    quick = faster(graph, source["MODEL"], asked["LATENT"])
    nothing = graph.add("ConditioningZeroOut", SAMPLE, {"conditioning": asked["positive"]})
    inputs = {
        "model": quick["MODEL"], "positive": asked["positive"], "negative": nothing["CONDITIONING"],
        "latent": asked["LATENT"], "seed": 42, "steps": steps, "cfg": 1.0, "sampler_name": "res_multistep",
        "scheduler_name": "simple",
    }  # fmt: skip
    samples = graph.add("VideoAttentionSampler", SAMPLE, inputs)
    told = report(graph, samples["output"])
    images = graph.add("VAEDecode", RESULT, {"samples": told["latent"], "vae": vae["VAE"]})
    heard = graph.add("VAEDecodeAudio", RESULT, {"samples": told["latent"], "vae": sound["VAE"]}, beside=True)
    save(graph, images["IMAGE"], 24.0, name, beside=False, audio=heard["AUDIO"])
