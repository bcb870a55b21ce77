"""ComfyUI's interrupt for the long work in attention/, and the plans of patterns, which go when a model goes."""

from __future__ import annotations

import comfy.model_management as host

from ...attention.core import interruption
from ...attention.sparse.runner import forget_engine_plans
from . import hooks

KEY = "video_attention.plans"


def check() -> None:
    """Raises where the user asked to stop."""
    if not issubclass(host.InterruptProcessingException, Exception):
        host.throw_exception_if_processing_interrupted()
    elif host.processing_interrupted():
        # An older host's is an error like any other: a call would fall back and the wish be forgotten. The host asks
        # again by itself.
        raise RuntimeError("interrupted")


interruption.set_interrupt_check(check)


def attach(patcher) -> None:
    """Lets what was planned for patterns go when `patcher` is unloaded."""
    hooks.when_unloaded(patcher, KEY, free)


def detach(patcher) -> None:
    """Undoes attach."""
    hooks.take_off(patcher, KEY)


def free(patcher, *_) -> None:
    """Frees what was planned when the model leaves its device, for another's sake or because the user wants the memory.

    The plans of a model that stays are freed too: they are shared by geometry, and made again in seconds.
    """
    forget_engine_plans()
