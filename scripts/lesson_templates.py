"""The workflow to learn by: what the page web/docs/attention-in-video.md shows, each thing to be changed by hand."""

from __future__ import annotations

import layout
from demo_models import ON_A_SHAPE, SCENES
from demo_templates import decode, sample, start
from graph import Graph, Node
from parts import ATTENTION, BYPASS, MODELS, PROMPT, RESULT, SAMPLE, note

LOOK, MEASURE = 6, 7
TRAINED = "video-attention-scenes-temporal.safetensors"
NAMES = layout.NAMES | {
    SAMPLE: "3 A: as it was trained",
    LOOK: "4 Where A looks",
    ATTENTION: "5 B: who may see whom",
    RESULT: "6 Both clips",
    MEASURE: "7 How steady they are",
}
WIDTHS = dict.fromkeys((layout.NOTE, PROMPT), 284) | dict.fromkeys((MODELS, SAMPLE), 240) | {
    LOOK: 290, ATTENTION: 246, RESULT: 210, MEASURE: layout.PAIR,
}  # fmt: skip
TOLD = {
    LOOK: "Click into a frame: the heat is where that token looks.\n\n*heads* `0`, then `1`: each looks elsewhere. "
    "*blocks* `0`, then `4`. *percent* `0.1`: the noise hides the shape.",
    ATTENTION: "Switch the trained blocks on: Ctrl+B. Off again, *pattern*: `temporal`, `spatial and temporal`, "
    "`temporal window`. *temperature* `0.5`: a sharper softmax; `2`: a flatter one.",
    MEASURE: "Beside A: does B move as much? Only then read *flicker* and *identity drift*.",
}


def learn(graph: Graph) -> None:
    """A as the model is, B with its attention changed; where A looks, and what both do."""
    graph.placing = {
        "columns": ((MODELS, SAMPLE), (LOOK,), (ATTENTION,), (RESULT,), (MEASURE,)),
        "names": NAMES,
        "widths": WIDTHS,
        "aside": (PROMPT,),
    }
    net, text, latent, vae = start(graph, SCENES)
    for step, told in TOLD.items():
        graph.note(told, step, "Change here")
    trained = sample(graph, SAMPLE, net["MODEL"], text, latent, title="Sample A", steps=SCENES.steps)
    changed = shape(graph, net)["MODEL"]
    other = sample(graph, ATTENTION, changed, text, latent, title="Sample B", steps=SCENES.steps, folded=True)
    clips = [
        decode(graph, samples["output"], vae, f"learn_{name.lower()}", title=f"Clip {name}", shows=155)
        for name, samples in (("A", trained), ("B", other))
    ]
    asked = {"positive": text["positive"], "latent": trained["output"], "images": clips[0]["IMAGE"], **ON_A_SHAPE}
    graph.add("VideoAttentionMaps", LOOK, {"model": net["MODEL"], **asked}, shows=330)
    for name, clip in zip("AB", clips):
        few = {"image": clip["IMAGE"], "upscale_method": "area", "scale_by": 0.33}
        third = graph.add("ImageScaleBy", RESULT, few, title=f"{name} small: quick to measure", folded=True)
        seen = {"images": third["IMAGE"]}
        looks = {"title": f"How steady {name} is", "beside": name == "B", "shows": 300}
        graph.add("VideoAttentionTemporalMetrics", MEASURE, seen, **looks)
    note(
        graph,
        "Learn: attention in video",
        "One prompt and one seed, twice: **A** is the demo model as it was trained, **B** the same with its attention "
        "changed. The page *Attention in AI video, shown*, in the pack's folder under "
        "*web/docs/attention-in-video.md*, tells what each thing is.",
        ("First only press *Run*.", "Then one thing in box 5, and *Run* again: A is kept, B is made anew."),
        "No download, no GPU: the demo model comes with the pack.",
    )


def shape(graph: Graph, net: Node) -> Node:
    """What changes B's attention, one node for each way; the last is off until it is asked for."""
    softer = graph.add("VideoAttentionStrength", ATTENTION, {"model": net["MODEL"]}, title="The softmax")
    # Above a place's frames: the trained blocks attend over those, and a spatial pattern would leave nothing of it.
    inside = {"model": softer["MODEL"], "pattern": "spatial", "start_percent": 0.0, "min_tokens": 64}
    seen = graph.add("VideoAttentionPattern", ATTENTION, inside, title="Who may see whom")
    trained = {"model": seen["MODEL"], "blocks_name": TRAINED}
    title = "Trained temporal blocks: Ctrl+B"
    return graph.add("VideoAttentionTemporalBlocks", ATTENTION, trained, title=title, mode=BYPASS, folded=True)
