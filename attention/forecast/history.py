"""What is remembered of computed evaluations, each prompt by itself, and the forecast that is made of it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import torch

from .memory import needed, remembered
from .polynomial import weights
from .settings import ForecastSettings

Streams = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Computed:
    """One computed value.

    time: when, in steps.
    streams: video first, then sound where the model has it.
    """

    time: float
    streams: Streams


class History:
    """Remembers the newest computed values of each key, in the model's own dtype.

    A key says of what a value is: of which prompt, context window, shape, part of a step. Values of one key alone make
    a forecast.

    settings: how forecasts are made, and where what is remembered lies; may be replaced at any time.
    others: that will replace it; as much is remembered as the one that needs most.
    """

    def __init__(self, settings: ForecastSettings, *others: ForecastSettings):
        self.settings = settings
        self._most = max(map(remembered, (settings, *others)))
        self._known: dict[Hashable, list[Computed]] = {}

    @property
    def size(self) -> int:
        """Count the bytes that are remembered."""
        return sum(s.nbytes for known in self._known.values() for value in known for s in value.streams)

    def is_ready(self, key: Hashable) -> bool:
        """Tell whether enough is remembered for a forecast of the degree that is asked for."""
        return len(self._known.get(key, ())) >= needed(self.settings)

    def push(self, key: Hashable, time: float, streams: Streams) -> None:
        """Remember a value; one of the same time is replaced, the oldest beyond the bound forgotten.

        time: in steps, later than all that the key has.
        streams: copied, unless they own their memory and nothing else is in it.
        """
        known = [value for value in self._known.get(key, ()) if value.time < time]
        keep = self._most - 1
        self._known[key] = [*(known[-keep:] if keep else ()), Computed(time, tuple(map(self._kept, streams)))]

    def forecast(self, key: Hashable, time: float, like: Streams | None = None) -> Streams:
        """Forecast a key's value at a time.

        time: in steps.
        like: streams whose device the forecast is for; None: where they are remembered.
        """
        known = self._known[key][-remembered(self.settings) :]
        counts = weights(self.settings, [value.time for value in known], time)
        pairs = [(count, value.streams) for count, value in zip(counts, known) if count]
        devices = [s.device for s in (like or known[-1].streams)]
        return tuple(
            weighted_sum([(count, streams[i]) for count, streams in pairs], device) for i, device in enumerate(devices)
        )

    def forget(self, before: float = float("inf")) -> None:
        """Forget every key whose newest value is older than a time, in steps: its prompt or window is gone."""
        self._known = {key: known for key, known in self._known.items() if known[-1].time >= before}

    def _kept(self, stream: torch.Tensor) -> torch.Tensor:
        stream = stream.detach()
        if self.settings.offload and stream.device.type != "cpu":
            return stream.to("cpu")
        return stream.clone(memory_format=torch.contiguous_format)


def weighted_sum(pairs: list[tuple[float, torch.Tensor]], device: torch.device) -> torch.Tensor:
    """Add tensors of one shape up, each times its weight, in float32 or finer; in their own dtype.

    device: of the sum; tensors come there one after the other.
    """
    (first, tensor), *rest = pairs
    fine = torch.promote_types(tensor.dtype, torch.float32)
    total = tensor.to(device=device, dtype=fine, copy=True).mul_(first)
    for count, more in rest:
        total.add_(more.to(device), alpha=count)
    return total.to(tensor.dtype)


def relative_error(guess: Streams, truth: Streams) -> torch.Tensor:
    """Measure the relative L2 of each stream's forecast, and return the largest: a scalar, without a wait for the GPU.

    Where the truth is nothing but zeros, the error is that of the guess itself. NaN where anything is not finite.
    """
    found = []
    for one, true in zip(guess, truth, strict=True):
        away, size = (one.float() - true.float()).norm(), true.float().norm()
        found.append(torch.where(size > 0, away / size.clamp_min(torch.finfo(torch.float32).tiny), away))
    return torch.stack([error.to(found[0].device) for error in found]).amax()
