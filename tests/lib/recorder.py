"""Stands in for the Comfy Compiler of newer hosts: records what a model's blocks allocate, and what they leave behind.

The real one (comfy.model_prefetch and comfy-aimdo, ComfyUI 0.34 and later) records the allocations of each block of
LTX-2, and of MiniMax-H3's whole forward, in the first step, and replays them in the others. What outlives its block
without a pause is a "rogue", a step that allocates otherwise a "graph break". It counts memory of the GPU alone; here
every tensor counts.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# What is recorded as one: name of the class -> modules of the model.
RECORDED = {
    "LTXAVModel": lambda model: list(model.transformer_blocks),
    "MiniMaxH3Model": lambda model: [model],
}


def storages(values) -> list:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class Recorder(TorchDispatchMode):
    """rogues: (number of the module, the operator, bytes) of what outlived a recorded call. traces: for each module,
    for each of its calls the bytes allocated, in order. pauses: how often the record was paused."""

    def __init__(self):
        super().__init__()
        self.rogues, self.traces, self.pauses = [], {}, 0
        self._made, self._trace, self._paused = {}, None, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if self._trace is not None and not self._paused:
            known = {s.data_ptr() for s in storages((args, kwargs))}
            for storage in storages(out):
                at = storage.data_ptr()
                if at and storage.nbytes() and at not in known:
                    self._made[at] = (StorageWeakRef(storage), str(func), storage.nbytes())
                    self._trace.append(storage.nbytes())
        return out

    @contextmanager
    def pause(self):
        """What the host's pause_malloc_graph does. Like the real one it does not count: the first end resumes."""
        self.pauses += 1
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    @contextmanager
    def recording(self, model):
        """Records the modules of this diffusion model while it runs."""
        modules = RECORDED[type(model).__name__](model)
        for number, module in enumerate(modules):
            module.forward = self._recorded(number, module.forward)
        try:
            with self:
                yield self
        finally:
            for module in modules:
                del module.forward

    def _recorded(self, number: int, forward):
        @wraps(forward)
        def record(*args, **kwargs):
            self._made, self._trace = {}, []
            try:
                out = forward(*args, **kwargs)
                self.traces.setdefault(number, []).append(self._trace)
            finally:
                self._trace = None
            given = {storage.data_ptr() for storage in storages((args, kwargs, out))}
            alive = [made for at, made in self._made.items() if not made[0].expired() and at not in given]
            self.rogues += [(number, operator, size) for _, operator, size in alive]
            self._made = {}
            return out

        return record

    def breaks(self, back: int = 1) -> list[tuple[int, int]]:
        """(module, call) whose allocations are not those of so many calls before."""
        return [
            (number, call)
            for number, traces in self.traces.items()
            for call in range(back, len(traces))
            if traces[call] != traces[call - back]
        ]
