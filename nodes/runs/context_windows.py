"""A clip longer than its model: ComfyUI's context windows with windows, weights and care of our own.

The host cuts the latent, its mask, its sound and everything in the prompts that belongs to frames. What is added here:
windows evenly spread, less memory asked for when it runs out, batches, and one window alone.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.context_windows as host
import comfy.model_base
import comfy.model_management
from comfy.patcher_extension import WrappersMP, add_callback

from ...attention.sampling import windows
from ...attention.sampling.windows import Span
from ..host import model_family
from . import window_conds
from .progress import Progress
from .sampling_job import Job

KEY = "video_attention.windows"
TIME = 2


def blended(job: Job, length: int, overlap: int, free_noise: bool, notes: list) -> tuple:
    """`job` with all windows evaluated at every step and their predictions blended, and the host's handler of them.

    length, overlap: of a window, in latent frames. When memory runs out the handler's length shrinks and `notes` gets a
    line; the host's error comes through once it cannot shrink. free_noise: arXiv:2310.15169, done by the host.
    """

    lead = window_conds.lead(job)

    def cut(frames, handler, options):
        spans = windows.split(frames, handler.context_length, handler.context_overlap)
        return [windows.with_references(span, lead) for span in spans]

    # ComfyUI before 0.26 names no overlap: it has one for all.
    def weigh(size, *, full_length, idxs, context_overlap=None, **more):
        overlapping = handler.context_overlap if context_overlap is None else context_overlap
        return windows.blend_weights_of(list(idxs), full_length, overlapping)

    handler = _handler(cut, host.ContextFuseMethod("ramp", weigh), length, overlap, free_noise)
    model = _install(job.model, handler, notes)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, _shrink(handler, notes))
    host.create_sampler_sample_wrapper(model)
    return replace(job, model=model), handler


def alone(job: Job, span: Span, notes: list) -> Job:
    """`job` with the frames of `span` evaluated; all others are predicted as zeros, and mean nothing after it."""
    fuse = host.get_matching_fuse_method(host.ContextFuseMethods.RELATIVE)
    frames = windows.with_references(span, window_conds.lead(job))
    handler = _handler(lambda *_: [frames], fuse, span[1] - span[0], 0, False)
    return replace(job, model=_install(job.model, handler, notes))


def guide_frames(positive: list) -> int:
    """Latent frames that LTXVAddGuide appended to the clip."""
    entries = positive[0][1].get("guide_attention_entries") if positive else None
    return sum(entry["latent_shape"][0] for entry in entries or ())


def cuts_guides(model) -> bool:
    """Whether the host can cut such frames into the windows that they belong to: in 0.30 those of LTX-2 alone."""
    cut = "resize_cond_for_context_window"
    return getattr(type(model.model), cut) is not getattr(comfy.model_base.BaseModel, cut)


def is_oom(error: BaseException) -> bool:
    return isinstance(error, Exception) and comfy.model_management.is_oom(error)


def _handler(cut, fuse, length: int, overlap: int, free_noise: bool):
    schedule = host.ContextSchedule("video attention", cut)
    return host.IndexListContextHandler(schedule, fuse, length, overlap, dim=TIME, freenoise=free_noise)


def _install(model, handler, notes: list):
    if "context_handler" in model.model_options:
        raise ValueError("model: it has context windows of its own; connect it without them.")
    row, network = model_family.row_of(model), model.model.diffusion_model
    cutter = window_conds.cutter(row, type(network).__name__, notes)
    add_callback(host.IndexListCallbacks.RESIZE_COND_ITEM, cutter, handler.callbacks)
    # The host puts the frame before it in front of each later window. Positions that are learned for one length have
    # none for a frame more.
    if row.learned_positions(network):
        handler.causal_window_fix = False
    windowed = model.clone()
    windowed.model_options["context_handler"] = handler
    host.create_prepare_sampling_wrapper(windowed)
    # The host takes one noise level for each sample of a batch for one of each frame and cuts it.
    windowed.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, _one_level)
    windowed.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, KEY, _each_sample)
    return windowed


def _one_level(executor, x, timestep, *args, **kwargs):
    return executor(x, timestep[:1], *args, **kwargs)


def _each_sample(executor, model, conds, x, timestep, model_options, *args, **kwargs):
    window = model_options.get("transformer_options", {}).get("context_window")
    conds = [window_conds.of_window(cond, window) for cond in conds]
    return executor(model, conds, x, timestep.expand(x.shape[0]), model_options, *args, **kwargs)


def _shrink(handler, notes: list):
    """A step that ran out of memory again, in smaller windows."""

    def wrapper(executor, *args, **kwargs):
        while True:
            try:
                return executor(*args, **kwargs)
            except Exception as error:
                before = handler.context_length
                after = windows.shrink(before, handler.context_overlap)
                if after is None or not is_oom(error):
                    raise
            comfy.model_management.soft_empty_cache()
            handler.context_length = after
            notes.append(shrunk(before, after))

    return wrapper


def shrunk(before: int, after: int) -> str:
    return f"Out of memory: windows of {after} latent frames instead of {before}."


def show_windows(handler, frames: int, progress: Progress, per_step: int) -> None:
    """The progress bar, `per_step` long for each step, also moves after each window of `frames` latent frames."""
    told = [0]

    def show(handler, model, x, conds, timestep, options, window, *_):
        count = len(windows.split(frames, handler.context_length, handler.context_overlap))
        value = int(per_step * (handler._step + window / count))
        if value > max(told[0], per_step * handler._step):
            told[0] = value
            progress.move(value, f"Step {handler._step + 1}, window {window + 1} of {count}")

    add_callback(host.IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, show, handler.callbacks)
