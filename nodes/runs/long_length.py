"""How long a clip and its windows are: what the widgets ask for, what the model was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from ...attention.families.facts import TrainedClips
from ...attention.sampling import lengths, windows
from ..host import model_family, window_handler
from ..host.latent import parts_of
from . import context_windows
from .sampling_job import Job

SECONDS, FRAMES = "seconds", "latent frames"
# Of overlap and rate: what suits the model and the window.
AUTO_OVERLAP, AUTO_RATE = -1.0, 0.0
# Of a window, that neighbours share where nobody says how much.
SHARED = 1 / 4


@dataclass(frozen=True)
class Length:
    """How long a clip and its windows are, in latent frames.

    frames: of the clip, without guides.
    window: of one window.
    overlap: that neighbouring windows share.
    guides: of the guides at the clip's end.
    said: a sentence about the window.
    ratio: pictures that a latent frame holds; 0 where this ComfyUI does not tell.
    rate: pictures a second.
    sizes: pictures in each latent frame, over and over, where they are not alike behind the first; else ().
    """

    frames: int
    window: int
    overlap: int
    guides: int = 0
    said: str = ""
    ratio: int = 0
    rate: float = 0.0
    sizes: tuple[int, ...] = ()

    @property
    def period(self) -> int:
        """Counts the frames after which a window may begin: with a frame of as many pictures as the clip's first."""
        return max(1, len(self.sizes))

    def spans(self, window: int, done: int = 0) -> int:
        """Counts the windows of so many frames that come one after the other behind `done` finished frames."""
        return windows.count_spans(self.frames, window, self.overlap, self.period, done)


@dataclass(frozen=True)
class Asked:
    """What the widgets ask for.

    unit: what window and overlap are counted in, SECONDS or FRAMES.
    window: length of a window; 0 for the one that the model was trained for.
    overlap: that neighbouring windows share; AUTO_OVERLAP for a part of the window.
    rate: pictures a second; AUTO_RATE for the model's.
    """

    unit: str
    window: float
    overlap: float
    rate: float


def length_of(job: Job, asked: Asked) -> Length:
    """Counts the widgets in latent frames. Raises ValueError with a sentence for what cannot be."""
    model, parts = job.model, parts_of(job.latent["samples"])
    video = parts[0]
    if video.ndim != 5:
        raise ValueError(f"latent: this model's frames are no axis of it (it is {tuple(video.shape)}); not supported.")
    if len(parts) > 1 and not window_handler.cuts_sound(model):
        raise ValueError(
            "latent: the sound of this model cannot be cut into windows, only that of LTX-2 and MiniMax-H3."
        )
    ratio = getattr(model.get_model_object("latent_format"), "temporal_downscale_ratio", None)
    if ratio is None and (asked.unit != FRAMES or not asked.window):
        raise ValueError(
            f"window: this ComfyUI does not tell how long a latent frame is; 0.24 does. Give it in {FRAMES}."
        )
    guides = context_windows.guide_frames(job)
    frames, row = video.shape[2] - guides, model_family.row_of(model)
    known, said = row.clips(model.model.diffusion_model), next(_rates(job), None)
    own = asked.rate if asked.rate != AUTO_RATE and (asked.window or not known.pictures) else known.rate
    sizes, period = row.frame_sizes, max(1, len(row.frame_sizes))
    window = windows.fit(_window(asked, known, said or own, ratio, sizes), frames, period)
    overlap = _overlap(asked, window, said or own, ratio, period)
    made = Length(frames, window, overlap, guides, "", ratio or 0, said or own, sizes)
    windows.check(window, made.overlap, made.period)
    if guides and frames > window and not window_handler.cuts_guides(model):
        raise ValueError(
            "positive: ComfyUI cannot cut guide frames of this model into windows, only those of LTX-2. Give it the "
            "start image in the latent instead, with LTXVImgToVideo."
        )
    return Length(**{**vars(made), "said": in_words(made, asked, known, bool(said)) if ratio else ""})


def _rates(job: Job):
    """Yields the pictures a second that prompts say."""
    return (options["frame_rate"] for options in job.prompts if options.get("frame_rate"))


def _window(asked: Asked, known: TrainedClips, rate: float, ratio: int | None, sizes: tuple) -> int:
    """Counts the latent frames of a window."""
    if not asked.window:
        return lengths.latent_frames(known.count(rate), ratio, sizes)
    if asked.unit == FRAMES:
        return round(asked.window)
    if sizes:
        return lengths.latent_frames(asked.window * rate, ratio, sizes)
    # The first latent frame of these codecs is one picture.
    return 1 + windows.frames_of_seconds(asked.window - 1 / rate, rate, ratio)


def _overlap(asked: Asked, window: int, rate: float, ratio: int | None, period: int) -> int:
    """Counts the latent frames that windows of `window` share."""
    if asked.overlap == AUTO_OVERLAP:
        return min(max(1, round(window * SHARED)), max(0, window - period))
    if asked.unit == FRAMES:
        return round(asked.overlap)
    return windows.frames_of_seconds(asked.overlap, rate, ratio)


def in_words(length: Length, asked: Asked, known: TrainedClips, said: bool) -> str:
    """Says window and overlap in pictures and seconds, and which of them nobody chose.

    said: whether a prompt tells the rate.
    """
    rate, pictures = length.rate, lengths.pictures_of(length.window, length.ratio, length.sizes)
    line = f"A window is {pictures} pictures, {pictures / rate:.2f} s at {rate:g} a second"
    if known.pictures is not None:
        usual = round(known.count(rate))
        trained = f"{usual} pictures at {known.rate:g} a second"
        usual_window = lengths.latent_frames(usual, length.ratio, length.sizes)
        taken = ", which window 0 takes" if asked.window and usual_window != length.window else ""
        line = f"{line}; this model was trained with {trained}{taken}"
    shared = lengths.begin_of(length.window, length.ratio, length.sizes)
    shared -= lengths.begin_of(length.window - length.overlap, length.ratio, length.sizes)
    auto = ", a quarter of the window" if asked.overlap == AUTO_OVERLAP else ""
    line = f"{line}." if length.frames <= length.window else (
        f"{line}. The overlap is {shared} pictures, {shared / rate:.2f} s{auto}."
    )  # fmt: skip
    if asked.rate == AUTO_RATE and not said and known.pictures is None:
        line = f"{line} The rate is this model's usual one: another comes from LTXVConditioning or frame_rate."
    return line
