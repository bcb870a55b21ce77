"""The workflows of LTX-2.3 and LTX-2.5: two stages in one sampler, video and sound together."""

from __future__ import annotations

from dataclasses import dataclass

import layout
from graph import Graph, Node, Socket
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
)  # fmt: skip

OPTION, PICTURE = 6, 7
COLUMNS = ((MODELS, PICTURE), (PROMPT,), (ATTENTION, SAMPLE), (RESULT,))
NAMES = layout.NAMES | {OPTION: "Option: Ctrl+B", PICTURE: "2 Start image"}
WIDTHS = {PROMPT: layout.PAIR, SAMPLE: 340, RESULT: 400, layout.NOTE: 270, MODELS: 260}
FIRST_STAGE = "1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0"
SECOND_STAGE = "0.85, 0.725, 0.4219, 0.0"
SCENE = (
    "A paper boat with a candle drifts down a narrow canal at dusk. The camera glides beside it, close to the water; "
    "reflections of warm windows break and join again in its wake."
)
ANIMATE = "The scene comes to life: a light wind moves everything that is loose, and the camera slowly moves closer."
BAD = "still picture, blurred details, overexposed, washed out, text, subtitles, watermark, deformed hands, flicker"

L23 = model(f"{HUB}/Lightricks/LTX-2.3-fp8/resolve/main/ltx-2.3-22b-dev-fp8.safetensors", "checkpoints")
L23_LORA = model(
    f"{HUB}/Comfy-Org/ltx-2.3/resolve/main/split_files/loras/"
    "ltx_2.3_22b_distilled_1.1_lora_dynamic_fro09_avg_rank_111_bf16.safetensors",
    "loras",
)
L23_UPSCALER = model(
    f"{HUB}/Lightricks/LTX-2.3/resolve/main/ltx-2.3-spatial-upscaler-x2-1.1.safetensors", "latent_upscale_models"
)
GEMMA = model(
    f"{HUB}/Comfy-Org/ltx-2/resolve/main/split_files/text_encoders/gemma_3_12B_it_fp4_mixed.safetensors",
    "text_encoders",
)
OWN_25 = f"{HUB}/Lightricks/LTX-2.5/resolve/main"
L25 = model(
    f"{OWN_25}/diffusion_models/ltx-2.5-22b-distilled-transformer-comfy-int8-convrot.safetensors", "diffusion_models"
)
L25_TEXT = model(f"{OWN_25}/text_encoders/gemma4-12b-with-proj-ltx-2.5-comfy-int8-convrot.safetensors", "text_encoders")
L25_VAE = model(f"{OWN_25}/vae/ltx-2.5-video-vae-bf16.safetensors", "vae")
L25_SOUND = model(f"{OWN_25}/vae/ltx-2.5-audio-vae-bf16.safetensors", "vae")
L25_UPSCALER = model(
    f"{OWN_25}/latent_upscale_models/ltx-2.5-latent-spatial-upscaler-x2-bf16-1.0.safetensors", "latent_upscale_models"
)


@dataclass(frozen=True)
class Parts:
    """What a graph of LTX begins with."""

    net: Socket
    clip: Node
    vae: Socket
    sound: Socket
    upscaler: Node | None = None


def parts_23(graph: Graph) -> Parts:
    """LTX-2.3: one checkpoint, and the LoRA that makes it fast."""
    checkpoint = loaded(graph, L23, "ckpt_name", "CheckpointLoaderSimple")
    distilled = lora(graph, checkpoint["MODEL"], L23_LORA, strength=0.5)
    files = {"text_encoder": GEMMA["name"], "ckpt_name": L23["name"]}
    clip = graph.add("LTXAVTextEncoderLoader", MODELS, files, models=[GEMMA, L23])
    sound = loaded(graph, L23, "ckpt_name", "LTXVAudioVAELoader")
    upscaler = loaded(graph, L23_UPSCALER, "model_name", "LatentUpscaleModelLoader")
    return Parts(distilled["MODEL"], clip, checkpoint["VAE"], sound[0], upscaler)


def parts_25(graph: Graph) -> Parts:
    """LTX-2.5: distilled as it comes, in files of their own."""
    net = loaded(graph, L25)
    clip = loaded(graph, L25_TEXT, "clip_name", "CLIPLoader", type="ltxv")
    vae, sound = (loaded(graph, entry, "vae_name", "VAELoader") for entry in (L25_VAE, L25_SOUND))
    upscaler = loaded(graph, L25_UPSCALER, "model_name", "LatentUpscaleModelLoader")
    return Parts(net["MODEL"], clip, vae["VAE"], sound["VAE"], upscaler)


RELEASES = {"LTX-2.3": parts_23, "LTX-2.5": parts_25}
NEEDS = {
    "LTX-2.3": "",
    "LTX-2.5": " **Needs ComfyUI 0.33 or newer**, and your consent on Lightricks' page before the download.",
}


def two_stages(graph: Graph, release: str, start_image: bool) -> None:
    """Video and sound in one sampler: half the size, then the latent upscaled and refined."""
    graph.placing = {"columns": COLUMNS, "names": NAMES, "widths": WIDTHS, "aside": (OPTION,)}
    made = RELEASES[release](graph)
    prompt, rate, length = ask(graph, made, ANIMATE if start_image else SCENE, 121)
    small, second = latents(graph, made, length, start_image)
    both = with_sound(graph, made, rate, length, small)
    avoid = {"model": made.net, "negative": prompt["negative"]}
    kind = "VideoAttentionNormalizedAttentionGuidance"
    guided = graph.add(kind, OPTION, avoid, title="Negative prompt at cfg 1", mode=BYPASS)
    quick = faster(graph, guided["MODEL"], shows=60)
    samples = sample(graph, made, quick, prompt, both, second)
    told = report(graph, samples["output"], shows=180)
    finish(graph, made, told["latent"], rate, f"{release}_{'i2v' if start_image else 't2v'}")
    note(
        graph,
        f"{release} in two stages, with sound",
        f"{'From a start image.' if start_image else 'From text.'} One sampler for both stages: half the size in 8 "
        f"steps, then the upscaled latent refined in 3. The report is the second's.{NEEDS[release]}",
        (
            "The start image and the prompt." if start_image else "The prompt: what is heard stands in it too.",
            f"{'Both sizes' if start_image else 'Half of the final size'}: multiples of 32. Length: 8 n + 1.",
            "*quality* of **Faster**: *balanced* adds a sparse pattern.",
            "At *cfg* 1 a negative prompt does nothing; **Normalized Attention Guidance** makes it count: switch it on "
            "with Ctrl+B.",
        ),
    )


def long_clip(graph: Graph) -> None:
    """LTX-2.3 for 20 seconds in one stage: picture and sound go on together from window to window."""
    graph.placing = {"columns": ((MODELS,), (PROMPT,), (ATTENTION, SAMPLE), (RESULT,)), "widths": WIDTHS}
    checkpoint = loaded(graph, L23, "ckpt_name", "CheckpointLoaderSimple")
    files = {"text_encoder": GEMMA["name"], "ckpt_name": L23["name"]}
    clip = graph.add("LTXAVTextEncoderLoader", MODELS, files, models=[GEMMA, L23])
    sound = loaded(graph, L23, "ckpt_name", "LTXVAudioVAELoader")
    made = Parts(checkpoint["MODEL"], clip, checkpoint["VAE"], sound[0])
    prompt, rate, length = ask(graph, made, SCENE, 481)
    both = with_sound(graph, made, rate, length, empty(graph, "Size", length, 768, 448))
    quick = faster(graph, made.net, both)
    inputs = {
        "model": quick["MODEL"], "positive": prompt["positive"], "negative": prompt["negative"], "latent": both,
        "seed": 42, "cfg": 4.0, "method": "extend", "window": 5.0, "overlap": 1.0, "frame_rate": rate[0],
    }  # fmt: skip
    samples = graph.add("VideoAttentionLongSampler", SAMPLE, inputs)
    told = report(graph, samples["output"], shows=180)
    finish(graph, made, told["latent"], rate, "LTX-2.3_long")
    note(
        graph,
        "LTX-2.3: 20 seconds, with sound",
        "Windows of 5 seconds, one after the other, each going on from the last second of the one before, in picture "
        "and sound. The sampler measures every joint: *seam* is about 1 where nothing shows.",
        (
            "The prompt: what is heard stands in it too.",
            "Length: 8 n + 1. Size: multiples of 32.",
            "*window* and *overlap*, in seconds. *blend* makes all windows at every step.",
            "*quality* of **Faster**: *balanced* adds a sparse pattern and forecast steps.",
        ),
    )


def ask(graph: Graph, made: Parts, text: str, frames: int) -> tuple[Node, Node, Node]:
    """The prompt, rate and length."""
    positive, negative = prompts(graph, made.clip, text, BAD)
    length = graph.add("PrimitiveInt", PROMPT, {"value": frames}, title="Length in frames: 8 n + 1")
    rate = graph.add("PrimitiveFloat", PROMPT, {"value": 24.0}, title="Frames a second", beside=True)
    both = {"positive": positive["CONDITIONING"], "negative": negative["CONDITIONING"], "frame_rate": rate[0]}
    return graph.add("LTXVConditioning", PROMPT, both), rate, length


def empty(graph: Graph, title: str, length: Node, width: int, height: int, **looks) -> Socket:
    size = {"width": width, "height": height, "length": length[0]}
    return graph.add("EmptyLTXVLatentVideo", PROMPT, size, title=title, **looks)["LATENT"]


def with_sound(graph: Graph, made: Parts, rate: Node, length: Node, video: Socket) -> Socket:
    more = {"frames_number": length[0], "frame_rate": rate[0], "audio_vae": made.sound}
    audio = graph.add("LTXVEmptyLatentAudio", PROMPT, more)
    both = {"video_latent": video, "audio_latent": audio[0]}
    return graph.add("LTXVConcatAVLatent", PROMPT, both, beside=True)["latent"]


def latents(graph: Graph, made: Parts, length: Node, start_image: bool) -> tuple[Socket, Socket | None]:
    """The first stage's video, and the second's where the start image must be in it again."""

    def with_image(latent: Socket, strength: float, **looks) -> Socket:
        kept = {"vae": made.vae, "image": image, "latent": latent, "strength": strength}
        return graph.add("LTXVImgToVideoInplace", PROMPT, kept, **looks)["latent"]

    small = empty(graph, "Half of the final size", length, 640, 352)
    if not start_image:
        return small, None
    large = empty(graph, "The final size", length, 1280, 704, beside=True)
    picture = graph.add("LoadImage", PICTURE, {"image": "example.png"}, title="Start image")
    image = graph.add("LTXVPreprocess", PICTURE, {"image": picture["IMAGE"], "img_compression": 18})[0]
    return with_image(small, 0.7), with_image(large, 1.0, beside=True)


def sample(graph: Graph, made: Parts, quick: Node, prompt: Node, latent: Socket, second: Socket | None) -> Node:
    """The sampler of both stages."""
    levels = [
        graph.add("ManualSigmas", SAMPLE, {"sigmas": sigmas}, title=f"Noise levels, {name} stage")["SIGMAS"]
        for name, sigmas in (("first", FIRST_STAGE), ("second", SECOND_STAGE))
    ]
    inputs = {
        "model_high": quick["MODEL"], "positive": prompt["positive"], "negative": prompt["negative"],
        "latent": latent, "seed": 42, "cfg_high": 1.0, "cfg_low": 1.0, "between": "upscale model",
        "upscale_model": made.upscaler[0], "vae": made.vae, "sigmas": levels[0], "second_sigmas": levels[1],
    }  # fmt: skip
    more = {"second_latent": second} if second else {}
    return graph.add("VideoAttentionTwoStageSampler", SAMPLE, inputs | more, title="Sampler of both stages", shows=64)


def finish(graph: Graph, made: Parts, samples: Socket, rate: Node, name: str) -> None:
    """The clip with its sound."""
    done = graph.add("LTXVSeparateAVLatent", RESULT, {"av_latent": samples})
    heard = {"samples": done["audio_latent"], "audio_vae": made.sound}
    sound = graph.add("LTXVAudioVAEDecode", RESULT, heard, beside=True)
    tiles = {"tile_size": 768, "overlap": 64, "temporal_size": 4096, "temporal_overlap": 4}
    images = graph.add("VAEDecodeTiled", RESULT, {"samples": done["video_latent"], "vae": made.vae, **tiles})
    save(graph, images["IMAGE"], rate[0], name, audio=sound[0])
