"""See what ran."""

import json

import torch
from comfy_api.latest import io, ui

from ..attention.draw import draw_report
from ..attention.report import to_text
from . import _images, _runs

UNKNOWN = (
    "This latent did not come straight from a sampler whose model went through Video Attention Backend. "
    "Connect the sampler's first output here and put Video Attention Backend before the sampler."
)

# Nodes whose model counts what it does.
PATCHING = {
    f"VideoAttention{name}"
    for name in (
        "Backend",
        "LoadModel",
        "Pattern",
        "Strength",
        "Calibrate",
        "LoadPlan",
        "SpatiotemporalGuidance",
        "PerturbedAttentionGuidance",
        "NormalizedAttentionGuidance",
        "Enhance",
    )
}


class VideoAttentionReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionReport",
            display_name="Video Attention Report",
            category="video attention/inspect",
            description=(
                "Says which attention kernel ran for this latent: how often, for which role and blocks, step by step, "
                "and every reason for a fallback. Shows it while the sampler runs, too."
            ),
            search_aliases=["which attention", "is sage active", "attention statistics", "fallback reason"],
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=[io.Latent.Input("latent", tooltip="The output of a sampler. It is passed through unchanged.")],
            outputs=[
                io.Latent.Output("latent", tooltip="The same latent."),
                io.String.Output("report", tooltip="The table shown on the node."),
                io.Image.Output(
                    "picture",
                    tooltip="One picture: a bar for each role and kernel, the steps, and the reasons for fallbacks.",
                ),
                io.String.Output("json", tooltip="The same as JSON, for scripts; empty without a report."),
            ],
        )

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        report = _runs.find(latent["samples"]) if _backend_before(cls.hidden) else None
        if report is None:
            return io.NodeOutput(latent, UNKNOWN, torch.ones(1, 64, 64, 3), "", ui=ui.PreviewText(UNKNOWN))
        text, data = to_text(report), report.as_dict()
        picture = _images.to_image(draw_report(report))
        # Scripts read the history of a run, where outputs are not kept, only what nodes show.
        shown = {**ui.PreviewText(text).as_dict(), "report": (data,)}
        return io.NodeOutput(latent, text, picture, json.dumps(data), ui=shown)


def _backend_before(hidden) -> bool:
    """Whether a Backend, not cleared again, is upstream. After a bypass the same seed gives the same latent: an older
    run's report would fit it."""
    if hidden is None or hidden.unique_id not in (hidden.prompt or ()):
        return True  # no server, or a node made while running
    seen, waiting = set(), [hidden.unique_id]
    while waiting:
        key = waiting.pop()
        node = hidden.prompt.get(key)
        if node is None or key in seen:
            continue
        seen.add(key)
        if node["class_type"] in PATCHING:
            return True
        if node["class_type"] != "VideoAttentionClear":
            waiting += [str(link[0]) for link in node["inputs"].values() if isinstance(link, list) and len(link) == 2]
    return False


NODES = (VideoAttentionReport,)
