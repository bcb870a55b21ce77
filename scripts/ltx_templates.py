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

PICTURE = 6
COLUMNS = ((MODELS, ATTENTION), (PROMPT,), (SAMPLE,), (RESULT,))
NAMES = layout.NAMES | {PICTURE: "2 Start image"}
WIDTHS = {PROMPT: layout.PAIR, SAMPLE: 320, RESULT: 420, layout.NOTE: 296, MODELS: 260}
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


def undistilled_23(graph: Graph) -> Parts:
    """LTX-2.3: the checkpoint as it is."""
    checkpoint = loaded(graph, L23, "ckpt_name", "CheckpointLoaderSimple")
    files = {"text_encoder": GEMMA["name"], "ckpt_name": L23["name"]}
    clip = graph.add("LTXAVTextEncoderLoader", MODELS, files, models=[GEMMA, L23])
    sound = loaded(graph, L23, "ckpt_name", "LTXVAudioVAELoader")
    return Parts(checkpoint["MODEL"], clip, checkpoint["VAE"], sound[0])


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
    graph.placing = {"columns": COLUMNS, "names": NAMES, "widths": WIDTHS, "aside": (PICTURE,)}
    made = RELEASES[release](graph)
    prompt, rate, length = ask(graph, made, ANIMATE if start_image else SCENE, 121)
    small, second = latents(graph, made, length, start_image)
    both = with_sound(graph, made, rate, length, small)
    quick = faster(graph, made.net, shows=60)
    avoid = {"model": quick["MODEL"], "negative": prompt["negative"]}
    kind = "VideoAttentionNormalizedAttentionGuidance"
    guided = graph.add(kind, SAMPLE, avoid, title="Negative prompt at cfg 1: Ctrl+B", mode=BYPASS, folded=True)
    samples = sample(graph, made, guided, prompt, both, second)
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
            "At *cfg* 1 the negative prompt counts only with *Negative prompt at cfg 1* on: Ctrl+B.",
        ),
    )


def long_clip(graph: Graph) -> None:
    """LTX-2.3 for 20 seconds in one stage: picture and sound go on together from window to window."""
    graph.placing = {"columns": COLUMNS, "widths": WIDTHS}
    made = undistilled_23(graph)
    prompt, rate, length = ask(graph, made, SCENE, 481)
    both = with_sound(graph, made, rate, length, empty(graph, "Size", length, 768, 448))
    quick = faster(graph, made.net, both)
    inputs = {
        "model": quick["MODEL"], "positive": prompt["positive"], "negative": prompt["negative"], "latent": both,
        "seed": 42, "cfg": 4.0, "method": "extend",
    }  # fmt: skip
    samples = graph.add("VideoAttentionLongSampler", SAMPLE, inputs)
    told = report(graph, samples["output"], shows=180)
    finish(graph, made, told["latent"], rate, "LTX-2.3_long")
    note(
        graph,
        "LTX-2.3: 20 seconds, with sound",
        "Windows of 5 seconds, one after the other, each going on from the last quarter of the one before, in picture "
        "and sound. The sampler measures every joint: *seam* is about 1 where nothing shows.",
        (
            "The prompt: what is heard stands in it too.",
            "Length: 8 n + 1. Size: multiples of 32.",
            "*window* 0 is what the model was trained for, *overlap* -1 a quarter of it. *blend* makes all windows at "
            "every step.",
            "*quality* of **Faster**: *balanced* adds a sparse pattern and forecast steps.",
        ),
    )


def one_stage(graph: Graph) -> None:
    """LTX-2.3 undistilled, in one stage: guidance of its own for picture and sound, and one that ties them together."""
    graph.placing = {"columns": COLUMNS, "widths": WIDTHS}
    made = undistilled_23(graph)
    prompt, rate, length = ask(graph, made, SCENE, 121)
    both = with_sound(graph, made, rate, length, empty(graph, "Size", length, 1280, 704))
    quick = faster(graph, made.net, both)
    samples = tied_sample(graph, quick, prompt, both)
    told = report(graph, samples["output"], shows=180)
    finish(graph, made, told["latent"], rate, "LTX-2.3_one_stage")
    note(
        graph,
        "LTX-2.3 in one stage, guided",
        "The undistilled model at full size: picture and sound each have a guidance of their own, 3 and 7, and "
        "*modality_scale* 3 ties them together: lips and sounds fit. Three model calls a step. **Needs ComfyUI 0.33 or "
        "newer.**",
        (
            "The prompt: what is heard stands in it too.",
            "Size: multiples of 32. Length: 8 n + 1.",
            "*video_cfg*, *audio_cfg*; *modality_scale* 1 is off and saves a third of the time.",
            "*quality* of **Faster**: *balanced* adds a sparse pattern and forecast steps.",
        ),
    )


def tied_sample(graph: Graph, quick: Node, prompt: Node, both: Socket) -> Node:
    """A sampler that guides picture and sound each by itself, and both together."""
    tied = graph.add(
        "LTXVModalityGuidance",
        ATTENTION,
        {"model": quick["MODEL"], "modality_scale": 3.0},
        title="Sound and picture tied",
    )
    asked = {"model": tied["MODEL"], "positive": prompt["positive"], "negative": prompt["negative"]}
    guider = graph.add("LTXVDualCFGGuider", SAMPLE, {**asked, "video_cfg": 3.0, "audio_cfg": 7.0})
    noise = graph.add("RandomNoise", SAMPLE, {"noise_seed": 42})
    levels = graph.add("LTXVScheduler", SAMPLE, {"steps": 30, "latent": both})
    method = graph.add("KSamplerSelect", SAMPLE, {"sampler_name": "euler"})
    inputs = {
        "noise": noise["NOISE"], "guider": guider["GUIDER"], "sampler": method["SAMPLER"], "sigmas": levels["SIGMAS"],
        "latent": both,
    }  # fmt: skip
    return graph.add("VideoAttentionSamplerAdvanced", SAMPLE, inputs, shows=70)


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
    return graph.add("LTXVConcatAVLatent", SAMPLE, both)["latent"]


def latents(graph: Graph, made: Parts, length: Node, start_image: bool) -> tuple[Socket, Socket | None]:
    """The first stage's video, and the second's where the start image must be in it again."""

    def with_image(latent: Socket, strength: float, **looks) -> Socket:
        kept = {"vae": made.vae, "image": image, "latent": latent, "strength": strength}
        return graph.add("LTXVImgToVideoInplace", PROMPT, kept, **looks)["latent"]

    if not start_image:
        return empty(graph, "Half of the final size", length, 640, 352), None
    picture = graph.add("LoadImage", PICTURE, {"image": "example.png"}, title="Start image")
    squeezed = {"image": picture["IMAGE"], "img_compression": 18}
    # Beside the conditioning of `ask`.
    image = graph.add("LTXVPreprocess", PROMPT, squeezed, beside=True)[0]
    small = empty(graph, "Half of the final size", length, 640, 352)
    large = empty(graph, "The final size", length, 1280, 704, beside=True)
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
