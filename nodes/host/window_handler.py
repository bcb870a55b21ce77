"""ComfyUI's context windows on a MODEL, with windows, weights and care of our own.

The host cuts the latent, its mask, its sound and everything in the prompts that belongs to frames. What is added here:
less memory asked for when it runs out, and batches.
"""

from __future__ import annotations

from collections.abc import Callable

import comfy.context_windows as host
import comfy.model_base
import comfy.model_management
from comfy.patcher_extension import WrappersMP, add_callback

from ...attention.routing.compiled_op import OPTIONS
from ...attention.sampling import windows
from . import hooks, model_family
from .sound_windows import SoundHandler

KEY, SMALLER = "video_attention.windows", "video_attention.smaller_windows"
NOISE = "video_attention.shared_noise"
# The host's key of context windows, in a model's options.
HANDLER = "context_handler"
# The axis of a latent that windows cut.
TIME = 2


def has_windows(model) -> bool:
    """Tells whether a MODEL is evaluated in context windows."""
    return HANDLER in model.model_options


def make_handler(
    model, cut: Callable, length: int, overlap: int, weigh: Callable | None = None, free_noise: bool = False
) -> host.IndexListContextHandler:
    """Makes a handler, of which a model can have one.

    model: MODEL that it is for.
    cut: (frames, handler, options) -> the latent frames of each window.
    length: of a window, in latent frames; it may shrink in a run.
    overlap: of neighbouring windows, in latent frames.
    weigh: as the host's ContextFuseMethod has it; None for its own `relative`.
    free_noise: arXiv:2310.15169, done by the host.
    """
    row, schedule = model_family.row_of(model), host.ContextSchedule("video attention", cut)
    if weigh is None:
        fuse = host.get_matching_fuse_method(host.ContextFuseMethods.RELATIVE)
    else:
        fuse = host.ContextFuseMethod("ramp", weigh)
    given = (schedule, fuse, length, overlap)
    if row.sound is None:
        return host.IndexListContextHandler(*given, dim=TIME, freenoise=free_noise)
    return SoundHandler(*given, dim=TIME, freenoise=free_noise, sound=row.sound, sizes=row.frame_sizes)


def add_windows(model, handler, cut_condition: Callable, conds_of_window: Callable):
    """Lets a clone of the MODEL `model` be evaluated in the windows of a handler.

    handler: of make_handler.
    cut_condition: the host's callback for one condition in a window; what gives None leaves it to the host.
    conds_of_window: (conds of one prompt, window) -> conds.
    Raises ValueError for a model that has windows already.
    """
    if has_windows(model):
        raise ValueError("model: it has context windows of its own; connect it without them.")
    add_callback(host.IndexListCallbacks.RESIZE_COND_ITEM, cut_condition, handler.callbacks)
    # The host puts the frame before it in front of each later window. Positions that are learned for one length have
    # none for a frame more, and windows of frames that are not alike begin with one of a single picture as they are.
    row = model_family.row_of(model)
    if row.frame_sizes or row.learned_positions(model.model.diffusion_model):
        handler.causal_window_fix = False

    def each_sample(executor, model, conds, x, timestep, model_options, *args, **kwargs):
        window = model_options.get(OPTIONS, {}).get("context_window")
        conds = [conds_of_window(cond, window) for cond in conds]
        return executor(model, conds, x, timestep.expand(x.shape[0]), model_options, *args, **kwargs)

    windowed = model.clone()
    windowed.model_options[HANDLER] = handler
    host.create_prepare_sampling_wrapper(windowed)
    # The host takes one noise level for each sample of a batch for one of each frame and cuts it.
    hooks.wrap(windowed, KEY, {WrappersMP.PREDICT_NOISE: _one_level, WrappersMP.CALC_COND_BATCH: each_sample})
    return windowed


def _one_level(executor, x, timestep, *args, **kwargs):
    return executor(x, timestep[:1], *args, **kwargs)


def shrink_when_out_of_memory(windowed, handler, tell: Callable[[int, int], None], period: int = 1) -> None:
    """Makes a step of add_windows' MODEL that ran out of memory once more in smaller windows, as long as there are.

    period: latent frames after which windows may begin.
    tell: called with the length before and after, in latent frames.
    """

    def wrapper(executor, *args, **kwargs):
        while True:
            try:
                return executor(*args, **kwargs)
            except Exception as error:
                before = handler.context_length
                after = windows.shrink(before, handler.context_overlap, period)
                if after is None or not is_oom(error):
                    raise
            comfy.model_management.soft_empty_cache()
            handler.context_length = after
            tell(before, after)

    hooks.wrap(windowed, SMALLER, {WrappersMP.PREDICT_NOISE: wrapper})


def share_noise(windowed, handler) -> None:
    """Lets the host prepare the noise of a handler with free_noise.

    The host's own wrapper asks the prompts called positive or negative how video and sound lie in the noise, and takes
    them for one stream where a guider has other names.
    """
    if not hasattr(handler, "_apply_freenoise"):  # hosts before 0.26 know no sound here
        host.create_sampler_sample_wrapper(windowed)
        return

    def wrapper(executor, guider, sigmas, extra_args, callback, noise, *args, **kwargs):
        if handler.freenoise:
            noise = handler._apply_freenoise(noise, list(guider.conds.values()), extra_args["seed"])
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)

    hooks.wrap(windowed, NOISE, {WrappersMP.SAMPLER_SAMPLE: wrapper})


def before_each_window(handler, show: Callable[[int, int], None]) -> None:
    """Calls show(step, window) before each window of a handler is evaluated.

    show: gets both numbers from 0.
    """

    def begin(handler, model, x, conds, timestep, options, window, *_):
        show(handler._step, window)

    add_callback(host.IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, begin, handler.callbacks)


def cuts_guides(model) -> bool:
    """Tells whether the host can cut guide frames into their windows: in 0.30 those of LTX-2 alone."""
    cut = "resize_cond_for_context_window"
    return getattr(type(model.model), cut) is not getattr(comfy.model_base.BaseModel, cut)


def cuts_sound(model) -> bool:
    """Tells whether the sound of a MODEL can be cut into windows: by the host, in 0.30 that of LTX-2 alone, or here."""
    return hasattr(model.model, "map_context_window_to_modalities") or model_family.row_of(model).sound is not None


def time_axes(model, count: int) -> list[int]:
    """Lists the axes of time of the parts of a MODEL's latent, so many: the video's, then the sound's."""
    sound = model_family.row_of(model).sound
    return [TIME, *[TIME if sound is None else sound.axis] * (count - 1)]


def is_oom(error: BaseException) -> bool:
    """Tells whether memory ran out."""
    return isinstance(error, Exception) and comfy.model_management.is_oom(error)
