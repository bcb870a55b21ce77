"""Sample a video that is longer than what its model was trained for."""

from dataclasses import dataclass
from math import isfinite

import comfy.samplers
from comfy_api.latest import io, ui

from ..attention.families.facts import TrainedClips
from ..attention.inspect.report_text import head_lines
from ..attention.sampling import lengths, seams, windows
from .host import model_family, run_history, window_handler
from .host.latent import parts_of
from .runs import context_windows, long_clip, sampling_job
from .runs.long_clip import Length, Result
from .runs.sampling_job import Job
from .widgets import sampler_inputs, search_words
from .widgets.idle import idle, one_of
from .widgets.node import REPORT, Node

BLEND, EXTEND = "blend", "extend"
SECONDS, FRAMES = "seconds", "latent frames"

# Of window and overlap, in seconds or frames.
LONGEST = 10000.0


class VideoAttentionLongSampler(Node):
    """Samples a clip longer than its model's own length, in windows."""

    TEXT = REPORT
    SAMPLES = True
    VIEW = "windows"
    IDLE = (*sampler_inputs.IDLE, idle("free_noise", when=(one_of("method", EXTEND),)))

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
        window, overlap, frame_rate, free_noise, keep, sampler=None, sigmas=None,
    ) -> io.NodeOutput:  # fmt: skip
        _check(window, overlap)
        latent = sampling_job.fitted(model, latent)
        said = positive[0][1].get("frame_rate") if positive else None
        length = _length(model, latent, positive, _Asked(unit, window, overlap, frame_rate, said))
        line = "Noise levels: your own."
        if sigmas is None:
            sigmas, line = sampling_job.sigmas_of(model, sampler_name, scheduler_name, steps, denoise, latent)
        sampler, noise = sampler or comfy.samplers.sampler_object(sampler_name), sampling_job.noise_of(latent, seed)
        job = Job(model, positive, negative, cfg, sampler, sigmas, latent, noise, seed)
        with run_history.own() as runs:
            result = (
                long_clip.blend(job, length, free_noise, keep)
                if method == BLEND
                else long_clip.extend(job, length, keep)
            )
        found, ran = _seams(result), list(head_lines(runs.report)) if runs else []
        answer = [ran.pop(0)] if runs and runs.report.answer.sentence else []
        window = f"{_windows_line(length, result)} {length.said}".strip()
        lines = [*answer, line, window, *ran, *_seam_lines(found)]
        text = "\n".join([*lines, *result.notes])
        out = {k: v for k, v in long_clip.cut_latent(latent, length, result.done).items() if "downscale_ratio" not in k}
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
            "overlap", default=1.0, min=0.0, max=LONGEST, step=0.1, tooltip="What neighbouring windows share."
        ),
        io.Float.Input(
            "frame_rate",
            default=24.0,
            min=1.0,
            max=1000.0,
            step=0.01,
            tooltip="Pictures a second, for seconds: 16 for Wan 2.1 and 2.2 14B. A frame rate in the prompt, from "
            "LTXVConditioning, comes first; where window is 0, the rate that the model was trained with.",
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
    if not (0.0 <= overlap <= LONGEST if not window else 0.0 <= overlap < window <= LONGEST):
        raise ValueError(
            f"overlap: {overlap:g} must be less than the window's {window:g}, and both from 0 to {LONGEST:g}."
        )


@dataclass(frozen=True)
class _Asked:
    """What the widgets ask for.

    unit: what window and overlap are counted in.
    window: length of a window.
    overlap: that neighbouring windows share.
    rate: frames a second of the widget.
    said: frames a second that the prompt has; None without any.
    """

    unit: str
    window: float
    overlap: float
    rate: float
    said: float | None


def _length(model, latent: dict, positive: list, asked: _Asked) -> Length:
    """Counts the widgets in latent frames. Raises ValueError with a sentence for what cannot be."""
    video = parts_of(latent["samples"])[0]
    if video.ndim != 5:
        raise ValueError(f"latent: this model's frames are no axis of it (it is {tuple(video.shape)}); not supported.")
    if len(parts_of(latent["samples"])) > 1 and not hasattr(model.model, "map_context_window_to_modalities"):
        raise ValueError("latent: ComfyUI cannot cut the sound of this model into windows, only that of LTX-2.")
    guides = context_windows.guide_frames(positive)
    ratio = getattr(model.get_model_object("latent_format"), "temporal_downscale_ratio", None)
    if ratio is None and (asked.unit != FRAMES or not asked.window):
        raise ValueError(
            f"window: this ComfyUI does not tell how long a latent frame is; 0.24 does. Give it in {FRAMES}."
        )
    known = model_family.row_of(model).clips(model.model.diffusion_model)
    window, overlap, rate, said = _asked(asked, known, ratio)
    windows.check(window, overlap)
    frames = video.shape[2] - guides
    if guides and frames > window and not window_handler.cuts_guides(model):
        raise ValueError(
            "positive: ComfyUI cannot cut guide frames of this model into windows, only those of LTX-2. Give it the "
            "start image in the latent instead, with LTXVImgToVideo."
        )
    return Length(frames, window, overlap, guides, said, ratio or 0, rate)


def _asked(asked: _Asked, known: TrainedClips, ratio: int | None) -> tuple[int, int, float, str]:
    """Finds window and overlap in latent frames, pictures a second, and a sentence that says the window in both."""
    auto = not asked.window
    rate = asked.said or (known.rate if auto and known.pictures else asked.rate)
    if auto:
        window = lengths.latent_frames(known.count(rate), ratio)
    elif asked.unit == FRAMES:
        window = round(asked.window)
    else:
        # The first latent frame of these codecs is one picture.
        window = 1 + windows.frames_of_seconds(asked.window - 1 / rate, rate, ratio)
    overlap = round(asked.overlap) if asked.unit == FRAMES else windows.frames_of_seconds(asked.overlap, rate, ratio)
    return window, overlap, rate, _window_line(window, rate, known, ratio) if ratio else ""


def _window_line(window: int, rate: float, known: TrainedClips, ratio: int) -> str:
    """Says a window in pictures and seconds, beside what the model was trained for."""
    pictures, usual = lengths.pictures_of(window, ratio), round(known.count(rate))
    line = f"A window is {pictures} pictures, {pictures / rate:.2f} s at {rate:g} a second"
    if known.pictures is None:
        return f"{line}."
    trained = f"{usual} pictures at {known.rate:g} a second"
    if lengths.latent_frames(usual, ratio) == window:
        return f"{line}; this model was trained with {trained}."
    return f"{line}; this model was trained with {trained}, which window 0 takes."


def _seams(result: Result) -> list:
    """Measures the seams of the video, then of the sound if there is any."""
    parts = parts_of(result.samples)
    found = [seams.seams(parts[0][:, :, : result.done], list(result.joints))]
    for sound in parts[1:]:
        at = [[windows.in_other_stream(edge, result.done, sound.shape[2]) for edge in joint] for joint in result.joints]
        found.append(seams.seams(sound, [(first, max(first + 1, end)) for first, end in at]))
    return found


def _drawn(length: Length, result: Result, found: list) -> dict:
    """Gives what web/windows.js draws. JSON knows no infinity: None."""
    video, sound = ([{"frame": seam.frame, "ratio": seam.ratio if isfinite(seam.ratio) else None} for seam in part]
                    for part in (*found, (), ())[:2])  # fmt: skip
    known = {"frames": length.frames, "done": result.done, "ratio": length.ratio, "rate": length.rate}
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
