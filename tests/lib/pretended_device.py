"""Intel's and Apple's GPUs as far as a CPU can stand in for them.

While a PretendedDevice is on, every tensor says that it is on that device, what is made there is made on the CPU, and
two things fail that fail there too: a tensor of float64, which Apple's GPU and some of Intel's do not have, and any
call of torch.cuda but whether it is there. What it cannot show: kernels of torch's that the device lacks, and its own
rounding.
"""

from __future__ import annotations

import functools
import types

import torch
from torch.overrides import TorchFunctionMode


class PretendedDevice(TorchFunctionMode):
    def __init__(self, kind: str):
        super().__init__()
        self.device, self.on = torch.device(kind), False

    def __enter__(self):
        self.on = True
        return super().__enter__()

    def __exit__(self, *raised):
        self.on = False
        return super().__exit__(*raised)

    def __torch_function__(self, function, types_, args=(), kwargs=None):
        if function == torch.Tensor.device.__get__:
            return self.device
        if function is torch.device:
            return function(*args, **(kwargs or {}))
        args, kwargs = [self.here(value) for value in args], {k: self.here(v) for k, v in (kwargs or {}).items()}
        made = function(*args, **kwargs)
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                assert torch.Tensor.dtype.__get__(one) != torch.float64, f"float64 by {function}"
        return made

    def here(self, value):
        """The CPU where the device was named."""
        named = value if isinstance(value, (torch.device, str)) else None
        return torch.device("cpu") if named in (self.device, self.device.type) else value


class Event:
    """What torch.mps.Event and torch.xpu.Event answer: a millisecond from any event to the next."""

    def __init__(self, enable_timing: bool = False):
        assert enable_timing

    def record(self, stream=None): ...

    def synchronize(self): ...

    def elapsed_time(self, end) -> float:
        return 1.0


def pretend(monkeypatch, kind: str) -> PretendedDevice:
    """A device of that kind, with torch's module of it; while it is on, torch.cuda is shut."""
    made = PretendedDevice(kind)

    def shut(name, function, *args, **kwargs):
        assert not made.on, f"torch.cuda.{name} on {kind}"
        return function(*args, **kwargs)

    for name, value in list(vars(torch.cuda).items()):
        if isinstance(value, types.FunctionType) and not name.startswith(("_", "is_available", "is_initialized")):
            monkeypatch.setattr(torch.cuda, name, functools.partial(shut, name, value))
    module = getattr(torch, kind)
    monkeypatch.setattr(module, "Event", Event, raising=False)
    monkeypatch.setattr(module, "empty_cache", lambda: None)
    monkeypatch.setattr(module, "current_stream", lambda device=None: None, raising=False)
    # Intel's Arc A series.
    lacks = types.SimpleNamespace(has_fp64=False)
    monkeypatch.setattr(module, "get_device_properties", lambda device=None: lacks, raising=False)
    return made
