"""See what ran."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..attention.draw import draw_report
from ..attention.report import to_text
from . import _runs

UNKNOWN = (
    "This latent did not come straight from a sampler whose model went through Video Attention Backend. "
    "Connect the sampler's first output here and put Video Attention Backend before the sampler."
)


class VideoAttentionReport(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionReport",
            display_name="Video Attention Report",
            category="video attention/inspect",
            description=(
                "Says which attention kernel ran for this latent: how often, for which role and blocks, "
                "and every reason for a fallback."
            ),
            search_aliases=["which attention", "is sage active", "attention statistics", "fallback reason"],
            is_output_node=True,
            inputs=[io.Latent.Input("latent", tooltip="The output of a sampler. It is passed through unchanged.")],
            outputs=[
                io.Latent.Output("latent", tooltip="The same latent."),
                io.String.Output("report", tooltip="The table shown on the node."),
                io.Image.Output(
                    "picture", tooltip="One picture: a bar for each role and kernel, and the reasons for fallbacks."
                ),
            ],
        )

    @classmethod
    def execute(cls, latent) -> io.NodeOutput:
        report = _runs.find(latent["samples"])
        if report is None:
            return io.NodeOutput(latent, UNKNOWN, torch.ones(1, 64, 64, 3), ui=ui.PreviewText(UNKNOWN))
        text = to_text(report)
        picture = torch.from_numpy(np.asarray(draw_report(report), dtype=np.float32) / 255.0)[None]
        return io.NodeOutput(latent, text, picture, ui=ui.PreviewText(text))


NODES = (VideoAttentionReport,)
