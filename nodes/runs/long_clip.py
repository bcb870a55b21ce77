"""The two ways to a long clip: windows blended at every step, or one window after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NoReturn

import comfy.model_management
import comfy.sampler_helpers
import torch
from comfy.model_management import InterruptProcessingException

from ...attention.sampling import windows
from ...attention.sampling.windows import Span
from ..host import window_handler
from ..host.latent import NotFinite, join_parts, parts_of
from . import context_windows, sampling_job, window_conds
from .long_length import Length
from .progress import Progress
from .sampling_job import Job


@dataclass(frozen=True)
class Result:
    """What the sampling of a long clip gave.

    samples: of `output`, a tensor or a NestedTensor.
    clean: of `denoised_output`, as samples.
    done: latent frames that are finished.
    joints: where windows meet, as of windows.joints.
    notes: sentences about what went another way than asked.
    spans: the windows that were sampled, in latent frames.
    """

    samples: object
    clean: object
    done: int
    joints: tuple[Span, ...]
    notes: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()


def blend(job: Job, length: Length, free_noise: bool, keep: bool) -> Result:
    """Samples all windows at every step and blends them.

    free_noise: arXiv:2310.15169, done by the host; without effect where one window holds the clip.
    keep: gives the last prediction of the whole clip when the sampling is stopped early.
    Raises what stopped the sampling where nothing is kept.
    """
    notes: list[str] = []
    free_noise = free_noise and length.frames > length.window
    windowed, handler = context_windows.blended(job, length.window, length.overlap, length.period, free_noise, notes)
    per_step = len(windows.split(length.frames, length.window, length.overlap, length.period))
    progress = Progress(job.model, job.steps * per_step)
    context_windows.show_windows(handler, length.frames, length.period, progress, per_step)
    try:
        samples = sampling_job.run(windowed, progress.part(size=per_step))
    except BaseException as error:
        why = _why_stopped(error)
        if why is None or not keep or "x0" not in progress.seen:
            _give_up(error, length)
        samples = sampling_job.denoised(job.model, progress.seen["x0"], job.latent["samples"])
        notes.append(f"{why}: this is the prediction of the last step that was finished.")
    seen = progress.seen.get("x0")
    clean = samples if seen is None else sampling_job.denoised(job.model, seen, samples)
    spans = windows.split(length.frames, handler.context_length, handler.context_overlap, length.period)
    return Result(samples, clean, length.frames, tuple(windows.joints(spans)), tuple(notes), tuple(spans))


def extend(job: Job, length: Length, keep: bool) -> Result:
    """Samples one window after the other, each going on from the last frames of the one before, which a mask keeps.

    keep: gives the finished windows, if there are any, when the sampling is stopped early.
    Raises what stopped the sampling where nothing is kept.
    """
    progress = Progress(job.model, job.steps * length.spans(length.window))
    samples, clean = (_copies(job.latent["samples"]) for _ in range(2))
    size, done, joints, notes, spans = length.window, 0, [], [], []
    while done < length.frames:
        span = windows.next_span(done, length.frames, size, length.overlap, length.period)
        try:
            made = _window(job, replace(length, window=size), span, done, samples, progress, len(spans), notes)
        except BaseException as error:
            smaller = windows.shrink(min(size, length.frames), length.overlap, length.period)
            if smaller and window_handler.is_oom(error):
                comfy.model_management.soft_empty_cache()
                notes.append(context_windows.shrunk(size, smaller))
                size = smaller
                progress.total = job.steps * (len(spans) + length.spans(size, done))
                continue
            why = _why_stopped(error)
            if why is None or not keep or not done:
                _give_up(error, length)
            notes.append(f"{why}: these are the first {done} of {length.frames} latent frames, which are finished.")
            break
        for kept, new in zip((samples, clean), made, strict=True):
            _take(kept, parts_of(new), _streams(job, kept, length), done, span[1])
        joints += [(done, done + 1)] if done else []
        done, spans = span[1], [*spans, span]
    cut = [join_parts(_cut(parts, _streams(job, parts, length), done)) for parts in (samples, clean)]
    return Result(*cut, done, tuple(joints), tuple(notes), tuple(spans))


def _window(
    job: Job, length: Length, span: Span, done: int, samples: list, progress: Progress, count: int, notes: list
) -> tuple:
    """Samples the window `span`. Gives the samples and the prediction: of the whole clip, meaningless after the window.

    length: with the window's length as it is now.
    span: first latent frame and the one behind the last.
    done: latent frames that are finished.
    samples: tensors of the clip as it is so far.
    count: windows that are finished.
    """
    if span != (0, length.frames):
        mask = join_parts(_masks(job, samples, length, done))
        latent = {**job.latent, "samples": join_parts(samples), "noise_mask": mask}
        job = context_windows.alone(replace(window_conds.keeping(job), latent=latent), span, notes)
    name = f" of window {count + 1}" if progress.total > job.steps else ""
    made = sampling_job.run(job, progress.part(name, count * job.steps, span=(done, span[1])))
    seen = progress.seen.get("x0")
    return made, made if seen is None else sampling_job.denoised(job.model, seen, made)


def _masks(job: Job, samples: list, length: Length, done: int) -> list[torch.Tensor]:
    """Makes masks of the shape of `samples`: the latent's own, or ones; the first `done` frames are kept."""
    given = parts_of(job.latent["noise_mask"]) if job.latent.get("noise_mask") is not None else []
    made = []
    for i, (part, stream) in enumerate(zip(samples, _streams(job, samples, length), strict=True)):
        mask = (
            comfy.sampler_helpers.prepare_mask(given[i], part.shape, "cpu") if i < len(given) else torch.ones_like(part)
        )
        mask = mask.clone()
        # Negative values mean tokens that LTX leaves out, which stay out.
        mask.narrow(stream.axis, 0, stream.at(done)).clamp_(max=0.0)
        made.append(mask)
    return made


@dataclass(frozen=True)
class _Stream:
    """Where the frames of a clip are in one part of its latent.

    axis: of time.
    total: entries along it that belong to the clip: guides are at the end of the video.
    length: of the clip.
    """

    axis: int
    total: int
    length: Length

    def at(self, frame: int) -> int:
        """Finds where a latent frame of the video begins."""
        return windows.in_other_stream(frame, self.length.frames, self.total, self.length.sizes)


def _streams(job: Job, parts: list, length: Length) -> list[_Stream]:
    """Lists the streams of a latent with these parts: the video, then the sound if there is any."""
    axes = window_handler.time_axes(job.model, len(parts))
    guides = [length.guides, *[0] * (len(parts) - 1)]
    return [_Stream(a, part.shape[a] - n, length) for a, part, n in zip(axes, parts, guides, strict=True)]


def _take(kept: list, new: list, streams: list[_Stream], done: int, end: int) -> None:
    """Copies frames `done` to `end` of `new` into `kept`, in place; all of it when that is the whole clip."""
    for into, part, stream in zip(kept, new, streams, strict=True):
        if (done, end) == (0, stream.length.frames):
            into.copy_(part)
            continue
        first, last = stream.at(done), stream.at(end)
        into.narrow(stream.axis, first, last - first).copy_(part.narrow(stream.axis, first, last - first))


def _cut(parts: list, streams: list[_Stream], done: int) -> list:
    """Cuts each part to its first `done` frames and the guides."""
    found = []
    for part, stream in zip(parts, streams, strict=True):
        guides = part.shape[stream.axis] - stream.total
        begin, rest = part.narrow(stream.axis, 0, stream.at(done)), part.narrow(stream.axis, stream.total, guides)
        found.append(torch.cat([begin, rest], dim=stream.axis))
    return found


def cut_latent(job: Job, length: Length, done: int) -> dict:
    """Copies a job's LATENT with its mask as short as a result of `done` latent frames."""
    latent, mask = job.latent, job.latent.get("noise_mask")
    if done == length.frames or mask is None:
        return latent
    samples, masks = parts_of(latent["samples"]), parts_of(mask)
    streams = _streams(job, samples, length)[: len(masks)]
    fits = all(
        m.ndim == s.ndim and m.shape[stream.axis] == s.shape[stream.axis]
        for m, s, stream in zip(masks, samples, streams, strict=False)
    )
    return {**latent, "noise_mask": join_parts(_cut(masks, streams, done))} if fits else latent


def _copies(samples) -> list[torch.Tensor]:
    return [part.to("cpu", torch.float32, copy=True) for part in parts_of(samples)]


def _why_stopped(error: BaseException) -> str | None:
    """Gives the beginning of a sentence about an error; None for an error that ends the run."""
    if isinstance(error, InterruptProcessingException):
        return "Interrupted"
    if window_handler.is_oom(error):
        return "Out of memory with the smallest window"
    return error.args[0] if isinstance(error, NotFinite) else None


def _give_up(error: BaseException, length: Length) -> NoReturn:
    """Raises `error`, and when memory ran out one of the same kind that says what to do."""
    if not window_handler.is_oom(error):
        raise error
    least = length.overlap + length.period
    least += (length.window - least) % length.period
    raise comfy.model_management.OOM_EXCEPTION(
        f"Out of memory, even in windows of {least} latent frames, the shortest with this overlap. "
        "Take a smaller overlap or smaller pictures."
    ) from error
