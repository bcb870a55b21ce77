"""A node that measures ends with its figures: memory that is missing once does not end it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import comfy.model_management

from ...attention.core.error_handling import free_frames, is_out_of_memory


def once_more(execute: Callable) -> Callable:
    """Wraps a node's `execute`: where memory was missing it is done again, with all that it held given back.

    Missing for good, that is ComfyUI's to say. What a node keeps of an earlier try, as Calibrate does, is not made
    anew.
    """

    @wraps(execute)
    def run(cls, *args, **kwargs):
        try:
            return execute(cls, *args, **kwargs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            free_frames(error)
        comfy.model_management.soft_empty_cache()
        return execute(cls, *args, **kwargs)

    return run
