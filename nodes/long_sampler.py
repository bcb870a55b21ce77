"""Sample a video that is longer than what its model was trained for."""

from math import isfinite

import comfy.samplers
from comfy_api.latest import io, ui

from ..attention.inspect.report_text import head_lines
from ..attention.sampling import lengths, seams, windows
from .host import run_history, window_handler
from .host.latent import parts_of
from .runs import long_clip, long_length, sampling_job
from .runs.long_clip import Result
from .runs.long_length import AUTO_OVERLAP, AUTO_RATE, FRAMES, SECONDS, Asked, Length
from .runs.sampling_job import Job
from .widgets import sampler_inputs, search_words
from .widgets.idle import idle, linked, one_of
from .widgets.node import REPORT, Node

BLEND, EXTEND = "blend", "extend"

# Of window and overlap, in seconds or frames.
LONGEST = 10000.0


class VideoAttentionLongSampler(Node):
    """Samples a clip longer than its model's own length, in windows."""

    TEXT = REPORT
    SAMPLES = True
    VIEW = "windows"
    EXAMPLE = "Long video"
    IDLE = (
        *sampler_inputs.IDLE,
        idle("free_noise", when=(one_of("method", EXTEND),)),
        idle("cfg", when=(linked("guider"),)),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionLongSampler",
            display_name="Video Attention Long Video Sampler",
            category="video attention/sample",
            description=(
                "Longer videos than the model's own length, with sound: samples in windows that overlap, blended at "
                "every step or one after the other. Measures every joint, keeps what is finished when it is "
                "interrupted, and takes smaller windows when memory runs out."
            ),
            search_aliases=search_words.of("VideoAttentionLongSampler"),
            inputs=[
                io.Model.Input("model", tooltip="The model, without context windows of its own."),
                *sampler_inputs.prompts(),
                sampler_inputs.seed(),
                sampler_inputs.steps(),
                sampler_inputs.cfg(),
                *sampler_inputs.how(),
                sampler_inputs.denoise(),
                *_lengths(),
                *_care(),
                sampler_inputs.own_sampler(),
                sampler_inputs.own_sigmas(),
                sampler_inputs.own_guider(),
            ],
            outputs=[
                *sampler_inputs.outputs(),
                io.Float.Output("seam", tooltip="The most visible joint: about 1 is none, above 1.5 may be seen."),
                sampler_inputs.report(),
            ],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler_name, denoise, method, unit,
        window, overlap, frame_rate, free_noise, keep, sampler=None, sigmas=None, guider=None,
    ) -> io.NodeOutput:  # fmt: skip
        _check(window, overlap)
        beside = ""
        if guider is not None:
            model, beside = sampling_job.guided(guider, "guider", "model, positive, negative and cfg")
        latent = sampling_job.fitted(model, latent)
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, latent)
        sampler, noise = sampler or comfy.samplers.sampler_object(sampler_name), sampling_job.noise_of(latent, seed)
        job = Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed, guider)
        length = long_length.length_of(job, Asked(unit, window, overlap, frame_rate))
        with run_history.own() as runs:
            result = (
                long_clip.blend(job, length, free_noise, keep)
                if method == BLEND
                else long_clip.extend(job, length, keep)
            )
        found, ran = _seams(job, length, result), list(head_lines(runs.report)) if runs else []
        answer = [ran.pop(0)] if runs and runs.report.answer.sentence else []
        window = f"{_windows_line(length, result)} {length.said}".strip()
        lines = [*answer, *filter(None, [beside]), line, window, *ran, *_seam_lines(found)]
        text = "\n".join([*lines, *result.notes])
        out = {k: v for k, v in long_clip.cut_latent(job, length, result.done).items() if "downscale_ratio" not in k}
        made = ({**out, "samples": samples} for samples in (result.samples, result.clean))
        shown = {**ui.PreviewText(text).as_dict(), "windows": (_drawn(length, result, found),)}
        return io.NodeOutput(*made, max(map(seams.worst, found)), text, ui=shown)


def _lengths() -> list:
    return [
        io.Combo.Input(
            "method",
            options=[BLEND, EXTEND],
            default=BLEND,
            tooltip="blend: all windows at every step, one clip of one piece. extend: a window after the other, each "
            "going on from the end of the one before; what is finished stays.",
        ),
        io.Combo.Input("unit", options=[SECONDS, FRAMES], default=SECONDS, tooltip="Of window and overlap."),
        io.Float.Input(
            "window",
            default=0.0,
            min=0.0,
            max=LONGEST,
            step=0.1,
            tooltip="Length of a window. 0: what the model was trained for, as the report says: 81 pictures for Wan, "
            "about 5 seconds for most.",
        ),
        io.Float.Input(
            "overlap",
            default=AUTO_OVERLAP,
            min=AUTO_OVERLAP,
            max=LONGEST,
            step=0.1,
            tooltip="What neighbouring windows share. -1: a quarter of the window, as the report says.",
        ),
        io.Float.Input(
            "frame_rate",
            default=AUTO_RATE,
            min=AUTO_RATE,
            max=1000.0,
            step=0.01,
            tooltip="Pictures a second, for seconds. 0: the rate that the model was trained with. A frame rate in the "
            "prompt, from LTXVConditioning, comes first; where window is 0, the trained rate.",
        ),
    ]


def _care() -> list:
    return [
        io.Boolean.Input(
            "free_noise",
            default=True,
            advanced=True,
            tooltip="FreeNoise, for blend: later windows begin with the first one's noise in another order, so they "
            "agree more.",
        ),
        io.Boolean.Input(
            "keep",
            default=True,
            advanced=True,
            tooltip="When you interrupt, or a window gives NaN or runs out of memory: go on with what is finished. "
            "Off: stop.",
        ),
    ]


def _check(window: float, overlap: float) -> None:
    """Raises ValueError with a sentence for an overlap that its window cannot have.

    Not before anything runs: ComfyUI would blame both widgets for it.
    """
    shared = 0.0 if overlap == AUTO_OVERLAP else overlap
    if not (0.0 <= shared <= LONGEST if not window else 0.0 <= shared < window <= LONGEST):
        raise ValueError(
            f"overlap: {overlap:g} must be less than the window's {window:g}, and both from 0 to {LONGEST:g}; an "
            f"overlap of {AUTO_OVERLAP:g} is a quarter of the window."
        )


def _seams(job: Job, length: Length, result: Result) -> list:
    """Measures the seams of the video, then of the sound if there is any."""
    parts = parts_of(result.samples)
    found = [seams.seams(parts[0][:, :, : result.done], list(result.joints))]
    for sound, axis in list(zip(parts, window_handler.time_axes(job.model, len(parts)), strict=True))[1:]:
        sound = sound.movedim(axis, window_handler.TIME)
        at = [
            [windows.in_other_stream(edge, result.done, sound.shape[2], length.sizes) for edge in joint]
            for joint in result.joints
        ]
        found.append(seams.seams(sound, [(first, max(first + 1, end)) for first, end in at]))
    return found


def _drawn(length: Length, result: Result, found: list) -> dict:
    """Gives what web/windows.js draws. JSON knows no infinity: None."""
    video, sound = ([{"frame": seam.frame, "ratio": seam.ratio if isfinite(seam.ratio) else None} for seam in part]
                    for part in (*found, (), ())[:2])  # fmt: skip
    known = {"frames": length.frames, "done": result.done, "ratio": length.ratio, "rate": length.rate}
    if length.sizes:
        known["begins"] = [lengths.begin_of(frame, length.ratio, length.sizes) for frame in range(length.frames + 1)]
    return {**known, "spans": [list(span) for span in result.spans], "seams": video, "sound": sound}


def _windows_line(length: Length, result: Result) -> str:
    count = len(result.joints) + 1
    return (
        f"{count} window{'s' if count > 1 else ''} of {min(length.window, length.frames)} latent frames over "
        f"{length.frames}, overlap {length.overlap}."
    )


def _seam_lines(found: list) -> list[str]:
    """Says the change across each joint over the ordinary change between neighbouring latent frames."""
    names = ("Seams (1: none) by latent frame", "Seams of the sound")
    return [f"{name}: {seams.to_text(part)}." for name, part in zip(names, found, strict=False) if part]


NODES = (VideoAttentionLongSampler,)
