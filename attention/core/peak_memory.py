"""Measures memory: the most bytes that were allocated at once, beside what was there before.

On a GPU the allocator's own peak (CUDA, ROCm, XPU). On a CPU, and without a device, the tensors that torch's operators
give and that live at the same time: what an operator takes and frees within itself is not seen there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode

from .error_handling import free_frames

MIB = 1 << 20
# Devices whose bytes are counted here.
COUNTED = ("cpu", "meta")
# Operators that are made of others which allocate: those are counted.
COMPOSED = (torch.ops.aten._scaled_dot_product_attention_math.default,)
# Runs whose peak is being measured: a call's peak is found by starting the allocator's peak anew.
_RUNNING: list[RunPeak] = []


class AllocationCounter(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is open. A context manager.

    live: bytes of those that still are.
    peak: the most that `live` was.
    blind: whether something ran that it did not see.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.blind = False
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator, and count what it gives that was not given to it."""
        kwargs = kwargs or {}
        if func in COMPOSED:
            with self:
                return func.decompose(*args, **kwargs)
        self.before(func, args, kwargs)
        out = func(*args, **kwargs)
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(out):
            if storage._cdata not in given:
                self._count(storage)
        return out

    def before(self, func: Callable, args: tuple, kwargs: dict) -> None:
        """Do what has to be done before an operator runs: nothing here."""

    def prune(self) -> None:
        """Forget what does not live any more."""
        for key in [key for key, (made, _) in self._made.items() if made.expired()]:
            self.live -= self._made.pop(key)[1]

    def _count(self, storage) -> None:
        self.prune()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._made and size:
            self._made[key] = StorageWeakRef(storage), size
            self.live += size
            self.peak = max(self.peak, self.live)


def _storages(value):
    """Yield the storages of the tensors in what an operator takes or gives."""
    if isinstance(value, torch.Tensor):
        if value.layout == torch.strided:
            yield value.untyped_storage()
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _storages(one)
    elif isinstance(value, dict):
        yield from _storages(tuple(value.values()))


@contextmanager
def unseen():
    """Let no AllocationCounter look on: what torch's compiler traces then fails in this process from there on."""
    counter = _get_current_dispatch_mode()
    if not isinstance(counter, AllocationCounter):
        yield
        return
    counter.blind = True
    with _disable_current_modes():
        yield


def peak_of(run: Callable, device: torch.device):
    """Run something once: gives what it gives, and how many bytes it took at most; None where nobody counts them.

    What it gives is among the bytes, what it was given is not. On a GPU the allocator's peak starts anew.
    """
    if device.type in COUNTED:
        with AllocationCounter() as counter:
            out = run()
        return out, None if counter.blind else counter.peak
    allocator = _allocator(device)
    if allocator is None:
        return run(), None
    for running in _RUNNING:
        running.look()
    before = allocator.memory_allocated(device)
    allocator.reset_peak_memory_stats(device)
    out = run()
    return out, max(0, allocator.max_memory_allocated(device) - before)


def peak_if_it_runs(run: Callable, device: torch.device) -> int | None:
    """Run something that ran before: how many bytes it took at most; None where nobody counts, or it fails now."""
    try:
        return peak_of(run, device)[1]
    except Exception as error:
        free_frames(error)
        return None


def is_counted(device: torch.device) -> bool:
    """Tell whether peak_of says something on a device."""
    return device.type in COUNTED or _allocator(device) is not None


def _allocator(device: torch.device):
    """Find the module with the allocator's figures of a device; None where it keeps no peak."""
    module = getattr(torch, device.type, None)
    names = ("memory_allocated", "max_memory_allocated", "reset_peak_memory_stats")
    return module if all(hasattr(module, name) for name in names) else None


class RunPeak:
    """Measures the peak of a whole run on a GPU, from `begin` to the end of its `with`.

    device: None: nothing is measured.
    before: bytes that were allocated when it began; None: it did not begin, or nobody counts them.
    bytes: the most that came on top.
    """

    def __init__(self, device: torch.device | None):
        self.device, self.before, self.bytes = device, None, 0
        self._allocator = None if device is None else _allocator(device)

    def __enter__(self) -> RunPeak:
        return self

    def begin(self) -> None:
        """Begin, unless it has begun: when the weights are where they are needed."""
        if self.before is None and self._allocator is not None:
            self.before = self._allocator.memory_allocated(self.device)
            self._allocator.reset_peak_memory_stats(self.device)
            _RUNNING.append(self)

    def look(self) -> None:
        """Note how high the peak was until now."""
        if self.before is not None:
            self.bytes = max(self.bytes, self._allocator.max_memory_allocated(self.device) - self.before)

    def __exit__(self, *error) -> None:
        self.look()
        if self in _RUNNING:
            _RUNNING.remove(self)

    @property
    def found(self) -> tuple[int, int] | None:
        """Return (bytes before, the most on top of them); None where nobody counted."""
        return None if self.before is None else (self.before, self.bytes)


def most_of(peaks: Sequence[int | None]) -> int | None:
    """Find the largest of some peaks; None where one of them is not known."""
    return None if None in peaks else max(peaks)


def as_mib(size: int | None) -> float | None:
    """Return bytes as MiB, for data; None stays None."""
    return None if size is None else round(size / MIB, 3)


def in_mib(size: int) -> str:
    """Write bytes as MiB: `0.25`, `12`, `1,536`."""
    mib = size / MIB
    return f"{mib:,.0f}" if mib >= 10 else f"{mib:.2g}"
