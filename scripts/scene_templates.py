"""The workflow that the demo model of scenes runs: two shapes, 2,304 tokens, no downloads, no GPU."""

from __future__ import annotations

from demo_models import SCENES
from demo_templates import ASIDE, OWN, PROOF, TWO, backend, judge, pair, start
from graph import Graph, Node
from parts import ATTENTION, MODELS, RESULT, SAMPLE, note


def measure(graph: Graph, images: Node) -> None:
    """How steady B is, at a third of its size: what shapes do is seen there too."""
    few = {"image": images["IMAGE"], "upscale_method": "area", "scale_by": 0.33}
    third = graph.add("ImageScaleBy", PROOF, few, title="B small: quick to measure", folded=True)
    graph.add("VideoAttentionTemporalMetrics", PROOF, {"images": third["IMAGE"]}, title="How steady B is", shows=300)


def scenes(graph: Graph) -> None:
    """A: every token sees all others. B: those of its own frame alone."""
    graph.placing = {
        "columns": ((MODELS, ATTENTION), (SAMPLE,), (RESULT,), (PROOF,)),
        "aside": ASIDE,
        "names": TWO | {PROOF: "6 How steady B is"},
        "widths": {SAMPLE: 440, RESULT: 380, PROOF: 280},
    }
    net, text, latent, vae = start(graph, SCENES)
    whole = backend(graph, net["MODEL"], title="A: all of the clip")
    shape = {"model": net["MODEL"], "pattern": "spatial", "min_tokens": 0, "latent": latent["LATENT"]}
    inside = graph.add("VideoAttentionPattern", ATTENTION, shape, title="B: inside each frame alone")
    a, b = pair(graph, whole["MODEL"], inside["MODEL"], text, latent, vae, steps=SCENES.steps)
    judge(graph, a, b, "video_attention_scenes")
    measure(graph, b)
    note(
        graph,
        "Two shapes",
        "Two textured shapes move, turn and pass in front of each other: 128 pictures of 384 x 384, 2,304 tokens. In "
        "A every token sees all of the clip; in B, with the same seed, those of its own frame alone.\n\n**Video "
        "Attention Compare** lays B over A, **Temporal Metrics** say how steady B is.",
        (
            "The prompt: the shapes must differ in *colour* and in *direction*.",
            "*B*: another pattern, or any other node of this pack.",
            "*seed*, the same in both samplers.",
        ),
        OWN,
    )
