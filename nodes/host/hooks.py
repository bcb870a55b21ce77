"""What this pack adds to a MODEL: hooks on its modules that live as long as one run, and wrappers of its sampling.

Each stands under a key, by which it is replaced and taken off. Nothing is left on the modules between two runs. Not by
the host's injections: a clone of an injected model believes that it is injected too, and never is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP

from ...attention.routing.compiled_op import OPTIONS

# Of a diffusion model while it is sampled: {key: [Handle, ...]}.
ATTRIBUTE = "_video_attention_hooks"
WRAPPED = (
    WrappersMP.OUTER_SAMPLE, WrappersMP.PREPARE_SAMPLING, WrappersMP.SAMPLER_SAMPLE, WrappersMP.PREDICT_NOISE,
    WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL,
)  # fmt: skip
CALLED = (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP, CallbacksMP.ON_DETACH)


class Handle:
    """Something that was done to a module, and how it is undone.

    undo: takes no arguments; called by the first `remove`.
    """

    def __init__(self, undo: Callable[[], object]):
        self._undo = undo

    def remove(self) -> None:
        """Undoes it. Does nothing the second time."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()


def hook_before(module: torch.nn.Module, hook: Callable, first: bool = False) -> Handle:
    """Calls a hook before each forward of a module.

    hook: (module, args, kwargs) -> None, or (args, kwargs) in place of those.
    first: before the hooks that are there.
    """
    return Handle(module.register_forward_pre_hook(hook, with_kwargs=True, prepend=first).remove)


def hook_behind(module: torch.nn.Module, hook: Callable) -> Handle:
    """Calls a hook behind each forward of a module.

    hook: (module, args, kwargs, output) -> None, or an output in place of that.
    """
    return Handle(module.register_forward_hook(hook, with_kwargs=True).remove)


def replace_method(module: torch.nn.Module, name: str, answer: Callable) -> Handle:
    """Lets `answer` be called in place of the method `name` of one module."""
    found = vars(module).get(name)
    setattr(module, name, answer)

    def undo() -> None:
        # Who replaced it again after us may have kept ours and keeps it.
        if vars(module).get(name) is answer:
            delattr(module, name)
            if found is not None:
                setattr(module, name, found)

    return Handle(undo)


def during_runs(patcher, key: str, add: Callable[[object], Iterable[Handle]]) -> None:
    """Does something to the modules of a MODEL before each of its sampling runs, and undoes it after each.

    patcher: the MODEL, a clone of ours.
    key: whose it is; what this key did in runs until now is replaced.
    add: (patcher of the run) -> the Handles of what it did. If it is a generator, what it did before an error is undone
        too.
    """
    _remove_callbacks(patcher, key, (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP))

    def begin(patcher) -> None:
        end(patcher)  # what a run left that was never cleaned up
        handles = vars(patcher.model.diffusion_model).setdefault(ATTRIBUTE, {})[key] = []
        for handle in add(patcher):  # one by one: the next may fail
            handles.append(handle)

    def end(patcher) -> None:
        """After errors and interrupts too; also twice."""
        model = patcher.model.diffusion_model
        kept = vars(model).get(ATTRIBUTE, {})
        for handle in reversed(kept.pop(key, ())):
            handle.remove()
        if not kept:
            vars(model).pop(ATTRIBUTE, None)

    patcher.add_callback_with_key(CallbacksMP.ON_PRE_RUN, key, begin)
    patcher.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, end)


@contextmanager
def emptied(module: torch.nn.Module, lists: Iterable[str]) -> Iterator[None]:
    """Takes all modules out of some lists of a module while the context is open.

    lists: names of its attributes.
    """
    found = {name: getattr(module, name) for name in lists}
    try:
        for name in found:
            setattr(module, name, torch.nn.ModuleList())
        yield
    finally:
        for name, full in found.items():
            setattr(module, name, full)


@contextmanager
def hooked(around: dict[torch.nn.Module, tuple[Callable, Callable]]) -> Iterator[None]:
    """Calls hooks around the forward of modules while the context is open.

    around: {module: (before, behind)}, as of hook_before and hook_behind.
    """
    handles = []
    try:
        for module, (before, behind) in around.items():
            handles += [hook_before(module, before), hook_behind(module, behind)]
        yield
    finally:
        for handle in reversed(handles):
            handle.remove()


def when_unloaded(patcher, key: str, act: Callable) -> None:
    """Calls act(patcher, ...) when a MODEL leaves its device, instead of what the key had."""
    _remove_callbacks(patcher, key, (CallbacksMP.ON_DETACH,))
    patcher.add_callback_with_key(CallbacksMP.ON_DETACH, key, act)


def wrap(patcher, key: str, wrappers: dict[str, Callable]) -> None:
    """Puts wrappers around what the host calls in a sampling of a MODEL, instead of those that the key had.

    wrappers: {one of WRAPPED: (executor, *the host's arguments) -> what executor(*arguments) gives}. A later key stands
        further inside.
    """
    _remove_wrappers(patcher, key)
    for kind, wrapper in wrappers.items():
        patcher.add_wrapper_with_key(kind, key, wrapper)


def before_each_step(patcher, key: str, act: Callable[[float], None]) -> None:
    """Calls act(sigma) before each step of a sampling of a MODEL.

    act: gets the noise level that the step begins at.
    """

    def step(executor, x, timestep, *args, **kwargs):
        act(float(timestep.max()))
        return executor(x, timestep, *args, **kwargs)

    wrap(patcher, key, {WrappersMP.PREDICT_NOISE: step})


def move_innermost(guider, kind: str, key: str) -> None:
    """In the run that a guider begins, lets the wrapper of a key stand inside all others of its kind."""
    # The run's own copy of the model's wrappers; a later one stands further inside.
    wrappers = guider.model_options[OPTIONS]["wrappers"][kind]
    wrappers[key] = wrappers.pop(key)


def take_off(patcher, key: str) -> None:
    """Takes everything of a key off a MODEL."""
    _remove_wrappers(patcher, key)
    _remove_callbacks(patcher, key, CALLED)


def _remove_wrappers(patcher, key: str) -> None:
    for kind in WRAPPED:
        patcher.remove_wrappers_with_key(kind, key)


def _remove_callbacks(patcher, key: str, kinds: tuple[str, ...]) -> None:
    for kind in kinds:
        patcher.remove_callbacks_with_key(kind, key)
