"""A clip longer than its model: windows evenly spread and blended at every step, or one window alone."""

from __future__ import annotations

from dataclasses import replace

from ...attention.sampling import windows
from ...attention.sampling.windows import Span
from ..host import model_family, window_handler
from . import window_conds
from .progress import Progress
from .sampling_job import Job


def blended(job: Job, length: int, overlap: int, period: int, free_noise: bool, notes: list) -> tuple:
    """Makes `job` one of all windows, evaluated at every step and blended. Returns it and the host's handler of them.

    length: of a window, in latent frames; when memory runs out the handler's shrinks and `notes` gets a line. The
        host's error comes through once it cannot shrink.
    overlap: of neighbouring windows, in latent frames.
    period: latent frames after which windows may begin.
    free_noise: arXiv:2310.15169, done by the host.
    notes: gets sentences.
    """
    lead = window_conds.lead(job)

    def cut(frames, handler, options):
        spans = windows.split(frames, handler.context_length, handler.context_overlap, period)
        return [windows.with_references(span, lead) for span in spans]

    # ComfyUI before 0.26 names no overlap: it has one for all.
    def weigh(size, *, full_length, idxs, context_overlap=None, **more):
        overlapping = handler.context_overlap if context_overlap is None else context_overlap
        return windows.blend_weights_of(list(idxs), full_length, overlapping)

    handler = window_handler.make_handler(job.model, cut, length, overlap, weigh, free_noise)
    model = _windowed(job.model, handler, notes)
    tell = lambda before, after: notes.append(shrunk(before, after))  # noqa: E731
    window_handler.shrink_when_out_of_memory(model, handler, tell, period)
    window_handler.share_noise(model, handler)
    return replace(job, model=model), handler


def alone(job: Job, span: Span, notes: list) -> Job:
    """Makes `job` one of the frames of `span`; all others are predicted as zeros, and mean nothing after it."""
    spans = [windows.with_references(span, window_conds.lead(job))]
    handler = window_handler.make_handler(job.model, lambda *_: spans, span[1] - span[0], 0)
    return replace(job, model=_windowed(job.model, handler, notes))


def guide_frames(job: Job) -> int:
    """Counts the latent frames that LTXVAddGuide appended to the clip."""
    entries = next(filter(None, (options.get("guide_attention_entries") for options in job.prompts)), ())
    return sum(entry["latent_shape"][0] for entry in entries)


def _windowed(model, handler, notes: list):
    """Lets a clone of the MODEL `model` be evaluated in a handler's windows. ValueError if it has some already."""
    row, name = model_family.row_of(model), type(model.model.diffusion_model).__name__
    return window_handler.add_windows(model, handler, window_conds.cutter(row, name, notes), window_conds.of_window)


def shrunk(before: int, after: int) -> str:
    """Says that windows became shorter.

    before: latent frames of a window until then.
    after: latent frames of a window from then on.
    """
    return f"Out of memory: windows of {after} latent frames instead of {before}."


def show_windows(handler, frames: int, period: int, progress: Progress, per_step: int) -> None:
    """Moves the progress bar after each window too.

    handler: of `blended`.
    frames: latent frames of the clip.
    period: as of blended.
    per_step: how far a step moves the bar.
    """
    told = [0]

    def show(step: int, window: int) -> None:
        count = len(windows.split(frames, handler.context_length, handler.context_overlap, period))
        value = int(per_step * (step + window / count))
        if value > max(told[0], per_step * step):
            told[0] = value
            progress.move(value, f"Step {step + 1}, window {window + 1} of {count}")

    window_handler.before_each_window(handler, show)
