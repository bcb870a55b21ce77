"""The workflows that the demo model runs: no downloads, no GPU. And the list of all."""

from __future__ import annotations

from functools import partial

import templates
from graph import Graph, Node, Socket
from templates import BYPASS, backend

DEMO = "video-attention-demo.safetensors"
RATE = 25.0
OWN = (
    "This runs on the small demo model that comes with the pack, on any machine. For your own: put its loader, prompt, "
    "latent and VAE in place of the first two columns."
)


def start(graph: Graph, length: int, load: bool = True) -> tuple[Node | None, Node, Node, Node]:
    """The demo model unless not to be loaded, its prompt, an empty latent and its VAE. Returns these four."""
    net = graph.add("UNETLoader", 0, {"unet_name": DEMO}) if load else None
    prompt = {"colour": "red", "shape": "disc", "direction": "right"}
    text = graph.add("VideoAttentionDemoPrompt", 0, prompt)
    latent = graph.add("EmptyLTXVLatentVideo", 0, {"width": 256, "height": 256, "length": length})
    return net, text, latent, graph.add("VideoAttentionDemoVAE", 0)


def sample(graph: Graph, column: int, model: Socket, text: Node, latent: Node, kind="VideoAttentionSampler", **more):
    inputs = {
        "model": model, "positive": text["positive"], "negative": text["negative"], "latent": latent["LATENT"],
        "seed": 7, "cfg": 1.0, "scheduler_name": "simple", **more,
    }  # fmt: skip
    return graph.add(kind, column, inputs)


def decode(graph: Graph, column: int, samples: Socket, vae: Node, name: str) -> Node:
    """Decoded, and saved as a picture that plays anywhere."""
    images = graph.add("VAEDecode", column, {"samples": samples, "vae": vae["VAE"]})
    graph.add("SaveAnimatedWEBP", column, {"images": images["IMAGE"], "filename_prefix": name, "fps": RATE})
    return images


def preview(graph: Graph, column: int, images: Socket, title: str) -> None:
    graph.add("PreviewImage", column, {"images": images}, title=title)


def demo(graph: Graph) -> None:
    net, text, latent, vae = start(graph, 57)
    chosen = backend(graph, 1, net["MODEL"], timing=True)
    inputs = {
        "model": chosen["MODEL"], "positive": text["positive"], "negative": text["negative"],
        "latent_image": latent["LATENT"], "seed": 7, "steps": 20, "cfg": 1.0, "sampler_name": "euler",
        "scheduler": "simple",
    }  # fmt: skip
    samples = graph.add("KSampler", 2, inputs)
    report = graph.add("VideoAttentionReport", 3, {"latent": samples["LATENT"]})
    preview(graph, 3, report["picture"], "What ran")
    images = graph.add("VAEDecode", 4, {"samples": report["latent"], "vae": vae["VAE"]})
    clip = graph.add("CreateVideo", 4, {"images": images["IMAGE"], "fps": RATE})
    graph.add("SaveVideo", 4, {"video": clip["VIDEO"], "filename_prefix": "video/video_attention_demo"})
    webp = {"images": images["IMAGE"], "filename_prefix": "video_attention_demo", "fps": RATE}
    graph.add("SaveAnimatedWEBP", 5, webp)
    graph.note(
        1,
        "## Video attention demo\n\nA small video transformer that comes with the pack draws a coloured shape that "
        "moves. It needs no download and no GPU.\n\n**Video Attention Backend** chooses the kernel of its attention, "
        "**Video Attention Report** says what ran, how often and why something else did.\n\nChange *backend* and run "
        "again: the clip stays, the report changes. Set *role* to *spatial* and it stays as it is too: this model has "
        "no such calls. To turn it off, select the node and press Ctrl+B.",
    )


def compare(graph: Graph) -> None:
    """A: as the model is. B: with what shall be judged. One seed."""
    net, text, latent, vae = start(graph, 57)
    exact = backend(graph, 1, net["MODEL"], backend="host default")
    shape = {"model": net["MODEL"], "pattern": "temporal window", "min_tokens": 0, "latent": latent["LATENT"]}
    shaped = graph.add("VideoAttentionPattern", 1, shape)
    first = sample(graph, 2, exact["MODEL"], text, latent)
    second = sample(graph, 2, shaped["MODEL"], text, latent)
    reports = [graph.add("VideoAttentionReport", 3, {"latent": s["output"]}) for s in (first, second)]
    a, b = (
        decode(graph, 4, report["latent"], vae, f"video_attention_{letter}")
        for report, letter in zip(reports, "AB", strict=True)
    )
    inputs = {"reference": a["IMAGE"], "images": b["IMAGE"]}
    compared = graph.add("VideoAttentionCompare", 5, inputs)
    measured = graph.add("VideoAttentionTemporalMetrics", 5, {"images": b["IMAGE"]}, title="Metrics of B")
    preview(graph, 6, compared["chart"], "Difference over time")
    preview(graph, 6, compared["worst_frame"], "Worst frame: A, B, difference")
    preview(graph, 6, measured["chart"], "Metrics of B over time")
    graph.note(
        1,
        "## A against B\n\nA is the model as it is, B the one to judge, with the same seed: here each frame sees its "
        "neighbours in time alone. **Video Attention Compare** gives PSNR and SSIM of every frame, **Video Attention "
        "Temporal Metrics** flicker and the like.\n\nPut any node of this pack, or of another, in place of the "
        "pattern. To know how much a difference means, put a second exact kernel there first.\n\n" + OWN,
    )


def calibrate(graph: Graph) -> None:
    net, text, latent, vae = start(graph, 57)
    inputs = {
        "model": net["MODEL"], "positive": text["positive"], "negative": text["negative"], "latent": latent["LATENT"],
        "budget": "quality", "cfg": 1.0, "scheduler_name": "simple",
    }  # fmt: skip
    tuned = graph.add("VideoAttentionCalibrate", 1, inputs)
    known = {"model": tuned["MODEL"], "latent": latent["LATENT"], "plan_name": "plan.json"}
    planned = graph.add("VideoAttentionLoadPlan", 1, known, title="Load a plan: Ctrl+B", mode=BYPASS)
    graph.add("VideoAttentionSavePlan", 2, {"plan": tuned["plan"], "filename": "plan"})
    preview(graph, 2, tuned["picture"], "Error against time")
    samples = sample(graph, 3, planned["MODEL"], text, latent)
    report = graph.add("VideoAttentionReport", 3, {"latent": samples["output"]})
    decode(graph, 4, report["latent"], vae, "video_attention_plan")
    checked = sample(graph, 5, planned["MODEL"], text, latent, "VideoAttentionVerify", vae=vae["VAE"], steps=8)
    preview(graph, 5, checked["picture"], "The plan's error beside the noise floor")
    graph.note(
        2,
        "## Find a plan, share a plan\n\n**Video Attention Calibrate** tries kernels and patterns on your own prompt "
        "and size and keeps the fastest choice within the error budget. It samples once for every choice it tries, so "
        "it takes a while; **Video Attention Save Plan** keeps the result in *user/video_attention_plans*, **Video "
        "Attention Verify** says what the plan costs beside an exact kernel.\n\nTo use a "
        "plan of yours or of somebody else: bypass Calibrate and Save Plan (Ctrl+B), and switch Load Plan on the same "
        "way. A plan is numbers and names only.\n\n" + OWN,
    )


def long_video(graph: Graph) -> None:
    """Four times the length that the demo model was trained for."""
    net, prompt, latent, vae = start(graph, 249)
    chosen = backend(graph, 1, net["MODEL"])
    # At its own rate the shape is through in one window; four times slower it has somewhere to go on to.
    slow = {"positive": prompt["positive"], "negative": prompt["negative"], "frame_rate": 4 * RATE}
    text = graph.add("LTXVConditioning", 1, slow)
    lengths = {
        "method": "extend",
        "unit": "latent frames",
        "window": 8.0,
        "overlap": 4.0,
        "frame_rate": RATE,
        "seed": 1,
    }
    samples = sample(graph, 2, chosen["MODEL"], text, latent, "VideoAttentionLongSampler", **lengths)
    images = decode(graph, 3, samples["output"], vae, "video_attention_long")
    measured = graph.add("VideoAttentionTemporalMetrics", 3, {"images": images["IMAGE"]})
    preview(graph, 4, measured["chart"], "Metrics over time")
    graph.note(
        1,
        "## Longer than the model\n\nThe demo model was trained on 8 latent frames; this clip has 32, sampled in "
        "windows that overlap. The sampler measures every joint: *seam* is about 1 where nothing shows.\n\n*extend* "
        "makes the windows one after the other, each going on from the last frames of the one before: what is finished "
        "stays when you stop it. *blend* makes all windows at every step.\n\nFor Wan, LTX and others set *unit* to "
        "seconds and *window* to 0: what the model was trained for. LTX-2's sound is sampled along.\n\n" + OWN,
    )


def inside(graph: Graph) -> None:
    """Everything that looks at a model, in the order of asking."""
    net = graph.add("VideoAttentionLoadModel", 0, {"unet_name": DEMO})
    _, text, latent, vae = start(graph, 57, load=False)
    known = graph.add("VideoAttentionInfo", 1, {"model": net["MODEL"], "latent": latent["LATENT"]})
    preview(graph, 1, known["picture"], "What a kernel can gain")
    timed = {"model": net["MODEL"], "positive": text["positive"], "latent": latent["LATENT"]}
    speed = graph.add("VideoAttentionBenchmark", 2, timed)
    preview(graph, 2, speed["picture"], "Which kernel is fastest")
    late = {"model": net["MODEL"], "backend": "sdpa", "start_percent": 0.8}
    rules = graph.add("VideoAttentionBackend", 3, late, title="Another kernel for the last fifth")
    table = graph.add("VideoAttentionSchedule", 3, {"model": rules["MODEL"], "scheduler_name": "simple"})
    preview(graph, 3, table["picture"], "What holds when")
    samples = sample(graph, 4, rules["MODEL"], text, latent)
    images = decode(graph, 4, samples["output"], vae, "video_attention_inside")
    asked = {"positive": text["positive"], "latent": samples["output"], "images": images["IMAGE"], "x": 30.0}
    looked = graph.add("VideoAttentionMaps", 5, {"model": rules["MODEL"], **asked})
    preview(graph, 6, looked["shares"], "In the frame, over time, on the prompt")
    preview(graph, 6, looked["token_heat"], "Each word of the prompt")
    graph.note(
        6,
        "## Inside a model\n\n**Video Attention Model Info** says what is known of a model and what a faster kernel "
        "could gain at most. **Video Attention Benchmark** times every kernel on its real calls. **Video Attention "
        "Schedule** draws which rule holds at which step. **Video Attention Maps** shows where the model looks: click "
        "into a frame to ask again from there.\n\n" + OWN,
    )


# File name without ending -> what builds it. The front end shows the name as the title.
WORKFLOWS = {
    "Video attention demo": demo,
    "Compare attention, A against B": compare,
    "Calibrate and share a plan": calibrate,
    "Long video": long_video,
    "Inside a model": inside,
    "LTX-2.3 text to video, two stages": partial(templates.ltx, start_image=False),
    "LTX-2.3 image to video, two stages": partial(templates.ltx, start_image=True),
    "Wan 2.2 14B text to video, two experts": partial(templates.wan_14b, start_image=False),
    "Wan 2.2 14B image to video, two experts": partial(templates.wan_14b, start_image=True),
    "Wan 2.2 5B text and image to video": templates.wan_5b,
    "HunyuanVideo 1.5 text to video": templates.hunyuan,
}
