"""Makes room for what a run keeps between its steps: ComfyUI then expects so much more when it loads a model.

By that it decides how much of the weights may lie on the GPU, and what else has to leave it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import hooks


def making_room(size_of: Callable) -> Callable:
    """Makes what wraps PREPARE_SAMPLING for something that is kept.

    size_of: (patcher, samples without memory, clips) -> bytes that are kept on the GPU of so many clips at once.
    """

    def prepare(executor, patcher, noise_shape, *args, **kwargs):
        samples, model = torch.empty(tuple(noise_shape), device="meta"), patcher.model
        if not _size(size_of, patcher, samples, 1):
            return executor(patcher, noise_shape, *args, **kwargs)
        found = model.memory_required

        def answer(input_shape, *more, **named):
            # ComfyUI asks for what it would like, with two clips for each, and for the least that will do.
            return found(input_shape, *more, **named) + _size(size_of, patcher, samples, input_shape[0])

        handle = hooks.replace_method(model, "memory_required", answer)
        try:
            return executor(patcher, noise_shape, *args, **kwargs)
        finally:
            handle.remove()

    return prepare


def _size(size_of: Callable, patcher, samples: torch.Tensor, clips: int) -> int:
    try:
        return size_of(patcher, samples, clips)
    except Exception:  # an estimate must not cost a render
        return 0
