"""The workflows that the demo model runs: no downloads, no GPU."""

from __future__ import annotations

import layout
from demo_models import ON_A_SHAPE, SCENES, SMALL, DemoModel
from graph import Graph, Node, Socket
from parts import ATTENTION, BYPASS, MODELS, PROMPT, RESULT, SAMPLE, faster, note, report

RATE = 25.0
# As lossless as the node's own method and far faster; files are larger.
WEBP = {"method": "fastest"}
OWN = (
    "Runs on a small demo model that comes with the pack. **For your own**: put its loader, prompt, latent and VAE "
    "in place of steps 1 and 2."
)
SECOND, PROOF, SIZE, STEPS = 6, 7, 8, 9
ASIDE = (PROMPT,)


def start(
    graph: Graph, used: DemoModel, load: bool = True, size: int = PROMPT, length: int | None = None
) -> tuple[Node | None, Node, Node, Node]:
    """A model of the pack unless not to be loaded, its prompt, an empty latent and its VAE. Returns these four.

    size: the latent's step. length: another than the model's own.
    """
    net = graph.add("UNETLoader", MODELS, {"unet_name": used.file}) if load else None
    vae = graph.add("VideoAttentionDemoVAE", MODELS, {"clips": used.clips})
    text = graph.add(used.prompt, PROMPT, used.words, color=layout.GREEN)
    empty = {"width": used.side, "height": used.side, "length": length or used.length}
    return net, text, graph.add("EmptyLTXVLatentVideo", size, empty), vae


def sample(graph: Graph, step: int, model: Socket, text: Node, latent: Node, kind="VideoAttentionSampler", **more):
    looks = {name: more.pop(name) for name in ("title", "beside", "shows", "folded") if name in more}
    inputs = {
        "model": model, "positive": text["positive"], "negative": text["negative"], "latent": latent["LATENT"],
        "seed": 7, "cfg": 1.0, "scheduler_name": "simple", **more,
    }  # fmt: skip
    return graph.add(kind, step, inputs, **looks)


def decode(graph: Graph, samples: Socket, vae: Node, name: str, step: int = RESULT, **looks) -> Node:
    """Decoded, and saved as a picture that plays anywhere."""
    images = graph.add("VAEDecode", step, {"samples": samples, "vae": vae["VAE"]})
    saved = {"images": images["IMAGE"], "filename_prefix": name, "fps": RATE, **WEBP}
    graph.add("SaveAnimatedWEBP", step, saved, **{"title": "The result", **looks})
    return images


def preview(graph: Graph, step: int, images: Socket, title: str, **looks) -> None:
    graph.add("PreviewImage", step, {"images": images}, title=title, **looks)


def backend(graph: Graph, source: Socket, title: str = "Video Attention Backend", **more) -> Node:
    return graph.add("VideoAttentionBackend", ATTENTION, {"model": source, "backend": "auto", **more}, title=title)


def demo(graph: Graph) -> None:
    graph.placing = {"columns": ((MODELS, ATTENTION, SAMPLE), (RESULT,)), "widths": {RESULT: 680}, "aside": ASIDE}
    net, text, latent, vae = start(graph, SCENES)
    chosen = backend(graph, net["MODEL"], timing=True)
    inputs = {
        "model": chosen["MODEL"], "positive": text["positive"], "negative": text["negative"],
        "latent_image": latent["LATENT"], "seed": 7, "steps": SCENES.steps, "cfg": 1.0, "sampler_name": "euler",
        "scheduler": "simple",
    }  # fmt: skip
    samples = graph.add("KSampler", SAMPLE, inputs)
    told = report(graph, samples["LATENT"], shows=250)
    preview(graph, RESULT, told["picture"], "What ran", beside=True, shows=290)
    images = graph.add("VAEDecode", RESULT, {"samples": told["latent"], "vae": vae["VAE"]})
    clip = graph.add("CreateVideo", RESULT, {"images": images["IMAGE"], "fps": RATE}, beside=True)
    kept = {"video": clip["VIDEO"], "filename_prefix": "video/video_attention_demo"}
    graph.add("SaveVideo", RESULT, kept, title="The result", shows=334)
    webp = {"images": images["IMAGE"], "filename_prefix": "video_attention_demo", "fps": RATE, **WEBP}
    graph.add("SaveAnimatedWEBP", RESULT, webp, title="The same as a picture that moves", beside=True)
    note(
        graph,
        "Video attention demo",
        "A small video transformer that comes with the pack draws two shapes that move, turn and pass in front of each "
        "other: 128 pictures of 384 x 384 from 2,304 tokens. It needs no download and no GPU: press *Run*.\n\n**Video "
        "Attention Backend** chooses the kernel of its attention, **Video Attention Report** says what ran, how often "
        "and why something else did.",
        (
            "*backend*, and run again: the clip stays, the report changes.",
            "*role* to *spatial*: it stays as it is too, for this model has no such calls.",
            "The prompt: the shapes must differ in *colour* and in *direction*.",
        ),
        "To see it without: select **Video Attention Backend** and press Ctrl+B.",
    )


def pair(graph: Graph, a: Socket, b: Socket, text: Node, latent: Node, vae: Node, **more) -> tuple[Node, Node]:
    """Sample A, then B, with one seed. Returns both clips' pictures."""
    clips = []
    for letter, net in (("A", a), ("B", b)):
        samples = sample(graph, SAMPLE, net, text, latent, title=f"Sample {letter}", beside=letter == "B", **more)
        clips.append((letter, samples))
    told = [
        report(graph, samples["output"], SAMPLE, title=f"What ran in {letter}", beside=letter == "B")
        for letter, samples in clips
    ]
    return tuple(
        graph.add("VAEDecode", SAMPLE, {"samples": one["latent"], "vae": vae["VAE"]}, beside=one is told[1])
        for one in told
    )


def judge(graph: Graph, a: Node, b: Node, name: str) -> None:
    """B over A, and both clips."""
    graph.add("VideoAttentionCompare", RESULT, {"reference": a["IMAGE"], "images": b["IMAGE"]}, shows=540)
    for letter, images in (("a", a), ("b", b)):
        saved = {"images": images["IMAGE"], "filename_prefix": f"{name}_{letter}", "fps": RATE, **WEBP}
        graph.add("SaveAnimatedWEBP", RESULT, saved, title=f"Clip {letter.upper()}", beside=letter == "b", folded=True)


TWO = layout.NAMES | {ATTENTION: "3 A and B", SAMPLE: "4 Sample both"}
PAIRED = {
    "columns": ((MODELS, ATTENTION), (SAMPLE,), (RESULT,)),
    "aside": ASIDE,
    "names": TWO,
    "widths": {SAMPLE: 540, RESULT: 520},
}


def compare(graph: Graph) -> None:
    """A: as the model is. B: with what shall be judged. One seed."""
    graph.placing = PAIRED
    net, text, latent, vae = start(graph, SCENES)
    exact = backend(graph, net["MODEL"], backend="host default", title="A: as it is")
    shape = {"model": net["MODEL"], "pattern": "temporal window", "min_tokens": 0, "latent": latent["LATENT"]}
    shaped = graph.add("VideoAttentionPattern", ATTENTION, shape, title="B: what shall be judged")
    a, b = pair(graph, exact["MODEL"], shaped["MODEL"], text, latent, vae, steps=SCENES.steps)
    judge(graph, a, b, "video_attention")
    note(
        graph,
        "A against B",
        "A is the model as it is, B the one to judge, with the same seed: here each frame sees its neighbours in time "
        "alone. **Video Attention Compare** lays B over A and says how far apart they are, frame by frame, and which "
        "moves less steadily.",
        (
            "*B*: any node of this pack, or of another, in place of the pattern.",
            "To know how much a difference means, put a second exact kernel there first.",
        ),
        OWN,
    )


def worth(graph: Graph) -> None:
    """Two runs, one with the dial: what it gains and what it costs."""
    graph.placing = PAIRED
    net, text, latent, vae = start(graph, SCENES)
    plain = backend(graph, net["MODEL"], backend="host default", title="A: as it is", timing=True)
    quick = faster(graph, net["MODEL"], latent["LATENT"], {"quality": "balanced", "timing": True}, title="B: faster")
    a, b = pair(graph, plain["MODEL"], quick["MODEL"], text, latent, vae)
    judge(graph, a, b, "worth")
    note(
        graph,
        "Is it worth it?",
        "Your prompt twice with one seed: A as the model is, B with **Faster**. The two reports say the seconds, "
        "**Video Attention Compare** the decibels and shows B over A: drag the line.\n\nRun it twice: the first run "
        "loads the model and measures kernels.",
        ("*quality* of *B: faster*: from *lossless* to *fast*.", "*seed*, the same in both samplers.", "The prompt."),
        OWN,
    )


def calibrate(graph: Graph) -> None:
    """Find a plan, save it, prove it."""
    graph.placing = {
        "columns": ((ATTENTION,), (SIZE, SAMPLE), (RESULT,), (PROOF,)),
        "names": layout.NAMES
        | {SIZE: "2 Size", ATTENTION: "3 Find a plan", SAMPLE: "4 Sample with it", PROOF: "6 Proof"},
        "widths": {ATTENTION: 400, RESULT: 360, PROOF: 320},
        "aside": (MODELS, PROMPT),
    }
    net, text, latent, vae = start(graph, SMALL, size=SIZE)
    inputs = {
        "model": net["MODEL"], "positive": text["positive"], "negative": text["negative"], "latent": latent["LATENT"],
        "budget": "quality", "cfg": 1.0, "scheduler_name": "simple",
    }  # fmt: skip
    tuned = graph.add("VideoAttentionCalibrate", ATTENTION, inputs, shows=225)
    graph.add("VideoAttentionSavePlan", ATTENTION, {"plan": tuned["plan"], "filename": "plan"})
    known = {"model": tuned["MODEL"], "latent": latent["LATENT"], "plan_name": "plan.json"}
    planned = graph.add("VideoAttentionLoadPlan", SAMPLE, known, title="Load a plan: Ctrl+B", mode=BYPASS, folded=True)
    samples = sample(graph, SAMPLE, planned["MODEL"], text, latent)
    told = report(graph, samples["output"])
    decode(graph, told["latent"], vae, "video_attention_plan")
    checked = sample(
        graph, PROOF, planned["MODEL"], text, latent, "VideoAttentionVerify", vae=vae["VAE"], steps=8, shows=260
    )
    preview(graph, PROOF, checked["picture"], "The plan's error beside the noise floor")
    note(
        graph,
        "Find a plan, share a plan",
        "**Video Attention Calibrate** tries kernels and patterns on your own prompt and size and keeps the fastest "
        "choice within the error budget. It samples once for every choice, so it takes a while; **Save Plan** keeps "
        "the result in *user/video_attention_plans*, **Verify** says what it costs beside an exact kernel.",
        (
            "*budget*: how far the result may be off.",
            "To use a plan of yours or of somebody else: bypass Calibrate and Save Plan with Ctrl+B, and switch Load "
            "Plan on the same way. A plan is numbers and names only.",
        ),
        OWN,
    )


def long_video(graph: Graph) -> None:
    """Twice the length that the demo model was trained for."""
    graph.placing = {
        "columns": ((MODELS, ATTENTION), (SAMPLE,), (RESULT,), (PROOF,)),
        "names": layout.NAMES | {PROOF: "6 How steady it is"},
        "widths": {SAMPLE: 400, RESULT: 360, PROOF: 340},
        "aside": ASIDE,
    }
    net, text, latent, vae = start(graph, SCENES, length=249)
    chosen = backend(graph, net["MODEL"])
    lengths = {
        "method": "blend", "unit": "latent frames", "window": 16.0, "overlap": 8.0, "seed": 1, "steps": SCENES.steps,
    }  # fmt: skip
    samples = sample(graph, SAMPLE, chosen["MODEL"], text, latent, "VideoAttentionLongSampler", **lengths)
    images = decode(graph, samples["output"], vae, "video_attention_long")
    few = {"image": images["IMAGE"], "upscale_method": "area", "scale_by": 0.33}
    third = graph.add("ImageScaleBy", PROOF, few, title="Small: quick to measure", folded=True)
    measured = graph.add("VideoAttentionTemporalMetrics", PROOF, {"images": third["IMAGE"]}, title="Temporal metrics")
    preview(graph, PROOF, measured["chart"], "Metrics over time", shows=225)
    note(
        graph,
        "Longer than the model",
        "The demo model was trained on 16 latent frames; this clip has 32, sampled in windows that overlap. The "
        "sampler measures every joint: *seam* is about 1 where nothing shows.\n\n*blend* makes all windows at every "
        "step. *extend* makes them one after the other, each going on from the last frames of the one before: what is "
        "finished stays when you stop it.",
        (
            "*method*, *window*, *overlap*.",
            "For Wan, LTX and others *unit* in seconds, *window* 0 and *overlap* -1: what the model was trained for, "
            "and a quarter of it. Sound is sampled along.",
        ),
        OWN,
    )


def inside(graph: Graph) -> None:
    """Everything that looks at a model, in the order of asking."""
    graph.placing = {
        "columns": ((MODELS, ATTENTION), (SECOND,), (STEPS, SAMPLE), (RESULT,)),
        "names": layout.NAMES
        | {ATTENTION: "3 What is known", SECOND: "3 Rules", STEPS: "3 What holds when", RESULT: "5 Where it looks"},
        "widths": {layout.NOTE: 270, MODELS: 490, SECOND: 264, SAMPLE: 264},
        "aside": ASIDE,
    }
    net = graph.add("VideoAttentionLoadModel", MODELS, {"unet_name": SCENES.file})
    _, text, latent, vae = start(graph, SCENES, load=False)
    vae.beside = True
    graph.add("VideoAttentionInfo", ATTENTION, {"model": net["MODEL"], "latent": latent["LATENT"]}, shows=60)
    timed = {"model": net["MODEL"], "positive": text["positive"], "latent": latent["LATENT"]}
    graph.add("VideoAttentionBenchmark", ATTENTION, timed, title="Video Attention Benchmark", shows=100)
    late = {"model": net["MODEL"], "backend": "sdpa", "start_percent": 0.8}
    rules = graph.add("VideoAttentionBackend", SECOND, late, title="Another for the last fifth")
    asked = {"model": rules["MODEL"], "scheduler_name": "simple", "steps": SCENES.steps}
    table = graph.add("VideoAttentionSchedule", SECOND, asked, title="Video Attention Schedule", shows=300)
    preview(graph, STEPS, table["picture"], "At every step")
    samples = sample(graph, SAMPLE, rules["MODEL"], text, latent, steps=SCENES.steps)
    images = decode(graph, samples["output"], vae, "video_attention_inside", SAMPLE, title="The clip", folded=True)
    asked = {"positive": text["positive"], "latent": samples["output"], "images": images["IMAGE"]}
    graph.add("VideoAttentionMaps", RESULT, {"model": rules["MODEL"], **asked, **ON_A_SHAPE}, shows=520)
    note(
        graph,
        "Inside a model",
        "**Model Info** says what is known of a model and what a faster kernel could gain at most. **Benchmark** times "
        "every kernel on its real calls. **Schedule** draws which rule holds at which step. **Maps** shows where the "
        "model looks.",
        ("Click into a frame of **Maps** to ask again from there.", "*backend* and *start_percent* of step 3."),
        OWN,
    )
