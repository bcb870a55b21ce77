"""How steady a clip is, and how far two clips are apart."""

import math

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io, ui

from ..attention.measure import compare, draw_metrics, temporal
from ..attention.measure.frames import Unmeasurable
from .widgets import image_output, search_words
from .widgets.node import REPORT, Node

CATEGORY = "video attention/inspect"
BLANK = torch.ones(1, 64, 64, 3)


class VideoAttentionTemporalMetrics(Node):
    """Measures how steady a clip is."""

    TEXT = REPORT

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionTemporalMetrics",
            display_name="Video Attention Temporal Metrics (Flicker, Motion)",
            category=CATEGORY,
            description=(
                "Measures how steady a clip is: flicker, warping error, smoothness of the motion, identity drift and "
                "sharpness, for each frame and as one figure. Needs no model."
            ),
            search_aliases=search_words.of("VideoAttentionTemporalMetrics"),
            is_output_node=True,
            inputs=[
                io.Image.Input("images", tooltip="The frames of one clip, in order."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Whose identity to follow: a mask of the first frame, or one for each frame. "
                    "Without it: the whole frame.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Compares identity by this model's image embedding instead of colours and edges.",
                ),
            ],
            outputs=[
                io.Float.Output("flicker", tooltip="Mean difference of luma that no motion explains, 0 to 1."),
                io.Float.Output(
                    "warp_error", tooltip="Mean squared difference of RGB that no motion explains, 0 to 1."
                ),
                io.Float.Output("acceleration", tooltip="Mean change of the motion, in pixels per frame squared."),
                io.Float.Output("identity_drift", tooltip="One minus the cosine of features with the first frame."),
                io.Float.Output("sharpness", tooltip="Variance of the Laplacian of luma; more is sharper."),
                io.String.Output("report", tooltip="The table shown on the node."),
                io.Image.Output("chart", tooltip="All five over time."),
            ],
        )

    @classmethod
    def execute(cls, images, mask=None, clip_vision=None) -> io.NodeOutput:
        encode = None if clip_vision is None else _encoder(clip_vision)
        try:
            found = temporal.measure_clip(images, mask, encode, **_running(images))
        except Unmeasurable as reason:
            return io.NodeOutput(*[math.nan] * 5, str(reason), BLANK, ui=_shown(str(reason), ()))
        text = temporal.to_text(found)
        chart = draw_metrics.draw_series("Steadiness over time", found.title, found.series, found.notes)
        figures = (one.mean for one in found.series)
        return io.NodeOutput(*figures, text, image_output.to_image(chart), ui=_shown(text, found.series))


class VideoAttentionCompare(Node):
    """Measures how far a clip is from a reference."""

    TEXT = REPORT

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionCompare",
            display_name="Video Attention Compare (A/B, PSNR, SSIM)",
            category=CATEGORY,
            description=(
                "Measures how far a clip is from a reference of the same size: PSNR and SSIM for each frame and as one "
                "figure, the worst frame side by side, and a wipe."
            ),
            search_aliases=search_words.of("VideoAttentionCompare"),
            is_output_node=True,
            inputs=[
                io.Image.Input("reference", tooltip="The clip to compare with, for example with exact attention."),
                io.Image.Input("images", tooltip="The other clip: as many frames, of the same size."),
                io.Float.Input(
                    "split",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Where the wipe changes from the reference to the other clip: 0 is the left edge.",
                ),
            ],
            outputs=[
                io.Float.Output("psnr", tooltip="Decibels, over all frames; more is closer, inf is equal."),
                io.Float.Output("ssim", tooltip="Mean structural similarity; 1 is equal."),
                io.String.Output("report", tooltip="The table shown on the node."),
                io.Image.Output("chart", tooltip="Both over time."),
                io.Image.Output("worst_frame", tooltip="Reference, the other and their difference, side by side."),
                io.Image.Output("wipe", tooltip="The worst frame: the reference on the left, the other on the right."),
            ],
        )

    @classmethod
    def execute(cls, reference, images, split) -> io.NodeOutput:
        try:
            found = compare.compare_clips(reference, images, **_running(images))
        except Unmeasurable as reason:
            return io.NodeOutput(*[math.nan] * 2, str(reason), *[BLANK] * 3, ui=_shown(str(reason), ()))
        text, series = compare.to_text(found), (found.psnr, found.ssim)
        chart = image_output.to_image(draw_metrics.draw_series("Beside the reference", found.title, series))
        worst = image_output.to_image(draw_metrics.draw_pair(reference, images, found.worst))
        wipe = compare.wipe(reference, images, found.worst, split)
        return io.NodeOutput(*(one.mean for one in series), text, chart, worst, wipe, ui=_shown(text, series))


def _shown(text: str, series) -> dict:
    """Gives what the node shows, and the figures for scripts: of a run's history they find only what nodes show.

    JSON knows neither NaN nor infinity: those are None.
    """
    figures = {one.name: one.mean if math.isfinite(one.mean) else None for one in series}
    return {**ui.PreviewText(text).as_dict(), "figures": (figures,)}


def _running(images) -> dict:
    """Chooses where to measure, and makes a progress bar, which also notices when the run is cancelled."""
    bar, device = comfy.utils.ProgressBar(len(images)), comfy.model_management.get_torch_device()
    # Bicubic sampling is not to be had on every other kind of device.
    return {"device": device if device.type == "cuda" else "cpu", "advance": lambda: bar.update(1)}


def _encoder(clip_vision):
    return lambda picture: clip_vision.encode_image(picture, crop=False)["image_embeds"]


NODES = (VideoAttentionTemporalMetrics, VideoAttentionCompare)
