"""ComfyUI's loading of models, as tests need it."""

from __future__ import annotations

import gc
from functools import wraps


def load_in_peace(management) -> None:
    """Keeps Python from collecting garbage while ComfyUI goes through its list of loaded models.

    A model of an earlier test that is collected there leaves the list under the loop's feet: IndexError. Users have a
    few models, a run of all tests thousands.
    """

    def peaceful(run):
        @wraps(run)
        def call(*args, **kwargs):
            # One of them calls the other.
            outer = gc.isenabled()
            gc.disable()
            try:
                return run(*args, **kwargs)
            finally:
                if outer:
                    gc.enable()

        return call

    for name in ("free_memory", "load_models_gpu"):
        setattr(management, name, peaceful(getattr(management, name)))
