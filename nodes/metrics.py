"""How steady a clip is, and how far two clips are apart."""

import json
import math

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io, ui

from ..attention.core.peak_memory import as_mib
from ..attention.measure import compare, draw_metrics, temporal
from ..attention.measure.frames import Unmeasurable
from ..attention.measure.verdict import judge
from .host import clip_origin
from .widgets import compare_view, image_output, search_words
from .widgets.idle import idle, unused
from .widgets.node import REPORT, Node
from .widgets.once_more import once_more

CATEGORY = "video attention/inspect"
BLANK = torch.ones(1, 64, 64, 3)
# What an output gives that could not be measured, by its type.
NOTHING = {"FLOAT": math.nan, "INT": -1, "IMAGE": BLANK, "STRING": ""}


class VideoAttentionTemporalMetrics(Node):
    """Measures how steady a clip is."""

    TEXT = REPORT
    EXAMPLE = "Long video"

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
            outputs=_clip_outputs(),
        )

    @classmethod
    @once_more
    def execute(cls, images, mask=None, clip_vision=None) -> io.NodeOutput:
        encode = None if clip_vision is None else _encoder(clip_vision)
        try:
            found = temporal.measure_clip(images, mask, encode, **_running(images))
        except Unmeasurable as reason:
            return _answer(_clip_outputs(), {"report": str(reason)}, {})
        shots, (frame, worst) = found.shots, found.flicker.worst or (-1, math.nan)
        chart = draw_metrics.draw_series(
            "Steadiness over time", found.title, found.drawn, found.notes, shots.cuts, shots.repeats
        )
        values = {
            "flicker": found.flicker.mean, "warp_error": found.warp_error.mean, "acceleration": found.acceleration.mean,
            "identity_drift": found.drift.mean, "sharpness": found.sharpness.mean, "report": temporal.to_text(found),
            "chart": image_output.to_image(chart), "motion": found.motion.mean, "frozen": found.frozen,
            "loop": found.loop, "cuts": len(shots.cuts), "brightness_flicker": found.brightness.mean,
            "colour_drift": found.colour_drift.mean, "last_frame": found.last_frame,
            "flicker_ratio": found.flicker_ratio, "acceleration_percent": found.acceleration_percent,
            "acceleration_ratio": found.acceleration_ratio, "worst_flicker": worst, "worst_frame": frame,
        }  # fmt: skip
        more = {"worst": _worst_of(found.series), "cut frames": list(shots.cuts)}
        return _answer(_clip_outputs(), values, {**found.figures, **more})


class VideoAttentionCompare(Node):
    """Measures how far a clip is from a reference."""

    TEXT = REPORT
    VIEW = "compare"
    EXAMPLE = "Compare attention, A against B"
    IDLE = (idle("split", when=(unused("wipe"),)),)

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
            hidden=[io.Hidden.dynprompt, io.Hidden.unique_id],
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
            outputs=_pair_outputs(),
        )

    @classmethod
    @once_more
    def execute(cls, reference, images, split) -> io.NodeOutput:
        try:
            found = compare.compare_clips(reference, images, **_running(images))
        except Unmeasurable as reason:
            return _answer(_pair_outputs(), {"report": str(reason), "verdict": str(reason)}, {})
        verdict = judge(found)
        chart = draw_metrics.draw_series("Beside the reference", found.title, found.series, [verdict])
        costs = {name: clip_origin.cost_of(cls.hidden, name) for name in ("reference", "images")}
        report = "\n\n".join(filter(None, (compare.to_text(found), clip_origin.to_table(costs))))
        values = {
            "psnr": found.psnr.mean, "ssim": found.ssim.mean, "report": report,
            "chart": image_output.to_image(chart),
            "worst_frame": image_output.to_image(draw_metrics.draw_pair(reference, images, found.worst)),
            "wipe": compare.wipe(reference, images, found.worst, split), "verdict": verdict,
            "unsteady": found.unsteady.mean, "motion": found.motion.mean, "reference_motion": found.reference_motion,
            "frozen": found.frozen, "reference_frozen": found.reference_frozen,
        }  # fmt: skip
        took = {
            "seconds": [cost.seconds for cost in costs.values()],
            "peak_mib": [as_mib(cost.run) for cost in costs.values()],
            "call_mib": [as_mib(cost.call) for cost in costs.values()],
        }
        played = {"compare": compare_view.of([reference, images], found, verdict, **took)}
        return _answer(_pair_outputs(), values, {**found.figures, "worst": _worst_of(found.series)}, played)


def _worst_of(series) -> dict:
    """Gives the worst value and its frame of each measure that has one."""
    return {one.name: {"frame": one.worst[0], "value": one.worst[1]} for one in series if one.worst}


def _clip_outputs() -> list:
    return [
        io.Float.Output("flicker", tooltip="Mean difference of luma that no motion explains, 0 to 1."),
        io.Float.Output("warp_error", tooltip="Mean squared difference of RGB that no motion explains, 0 to 1."),
        io.Float.Output("acceleration", tooltip="Mean change of the motion, in pixels per frame squared."),
        io.Float.Output("identity_drift", tooltip="One minus the cosine of features with the first frame."),
        io.Float.Output("sharpness", tooltip="Variance of the Laplacian of luma; more is sharper."),
        io.String.Output("report", tooltip="The table shown on the node."),
        io.Image.Output("chart", tooltip="The measures over time."),
        io.Float.Output("motion", tooltip="How far things move, in percent of the height per frame."),
        io.Float.Output("frozen", tooltip="Share of the frames that equal the one before, 0 to 1."),
        io.Float.Output("loop", tooltip="Share of the frames that recur, 0 to 1: a warning, no score."),
        io.Int.Output("cuts", tooltip="How many cuts there are; they are in no other figure."),
        io.Float.Output("brightness_flicker", tooltip="How far brightness jumps up and down as a whole, 0 to 1."),
        io.Float.Output("colour_drift", tooltip="From the first fifth of a shot to its last, in L*a*b*."),
        io.Float.Output("last_frame", tooltip="How far the last frame stands out, in deviations of the others."),
        io.Float.Output("flicker_ratio", tooltip="Flicker over the mean gradient, which blur lowers too."),
        io.Float.Output("acceleration_percent", tooltip="Acceleration in percent of the height."),
        io.Float.Output("acceleration_ratio", tooltip="Acceleration over motion."),
        io.Float.Output("worst_flicker", tooltip="Flicker of the worst frame."),
        io.Int.Output("worst_frame", tooltip="Which frame that is, from 0; -1 if there is none."),
        io.String.Output("figures", tooltip="All figures as JSON, with the worst value and its frame of each measure."),
    ]


def _pair_outputs() -> list:
    return [
        io.Float.Output("psnr", tooltip="Decibels, over all frames; more is closer, inf is equal."),
        io.Float.Output("ssim", tooltip="Mean structural similarity; 1 is equal."),
        io.String.Output("report", tooltip="The table shown on the node."),
        io.Image.Output("chart", tooltip="Both over time."),
        io.Image.Output("worst_frame", tooltip="Reference, the other and their difference, side by side."),
        io.Image.Output("wipe", tooltip="The worst frame: the reference on the left, the other on the right."),
        io.String.Output("verdict", tooltip="What to think of it, in a sentence or two."),
        io.Float.Output(
            "unsteady", tooltip="Share of the error that changes: 0 stays, 1 is new in each frame, 2 flickers."
        ),
        io.Float.Output("motion", tooltip="Of the other clip, in percent of the height per frame."),
        io.Float.Output("reference_motion", tooltip="The same of the reference."),
        io.Float.Output("frozen", tooltip="Share of its frames that equal the one before, 0 to 1."),
        io.Float.Output("reference_frozen", tooltip="The same of the reference."),
        io.String.Output("figures", tooltip="All figures as JSON, with the worst value and its frame of each measure."),
    ]


def _answer(outputs: list, values: dict, figures: dict, more: dict | None = None) -> io.NodeOutput:
    """Gives a node's outputs in their order, and what it shows: the text, and the figures for scripts.

    outputs: as the schema has them; of the class that runs, ComfyUI lets nobody ask for the schema.
    values: by the outputs' ids; what could not be measured is left out.
    figures: of a run's history scripts find only what nodes show. JSON knows neither NaN nor infinity: those are None.
    more: what the node shows besides.
    """
    plain = compare_view.plain(figures)
    known = {"figures": json.dumps(plain), **values}
    given = [known.get(part.id, NOTHING[part.io_type]) for part in outputs]
    shown = {**ui.PreviewText(values["report"]).as_dict(), "figures": (plain,), **(more or {})}
    return io.NodeOutput(*given, ui=shown)


def _running(images) -> dict:
    """Chooses where to measure, and makes a progress bar, which also notices when the run is cancelled."""
    bar, device = comfy.utils.ProgressBar(len(images)), comfy.model_management.get_torch_device()
    # Bicubic sampling is not to be had on every other kind of device.
    return {"device": device if device.type == "cuda" else "cpu", "advance": lambda: bar.update(1)}


def _encoder(clip_vision):
    return lambda picture: clip_vision.encode_image(picture, crop=False)["image_embeds"]


NODES = (VideoAttentionTemporalMetrics, VideoAttentionCompare)
