"""How fast each GPU is beside the others, for shares by measured speed."""

from __future__ import annotations

import torch

from ..core.timing import elapsed, end_span, start_span

# Of a product of two square matrices: large enough for a GPU to be at work, gone in milliseconds.
SIDE = {"cpu": 256}
USUAL, REPEATS = 4096, 5


def relative_speeds(devices: list[torch.device], dtype: torch.dtype) -> tuple[float, ...]:
    """Measure how many matrix products each device makes in a second; the slowest is 1.

    dtype: of the matrices.
    """
    seconds = [seconds_of_product(device, dtype)[0] for device in devices]
    return tuple(max(seconds) / each for each in seconds)


def seconds_of_product(device: torch.device, dtype: torch.dtype) -> tuple[float, int]:
    """Measure a product of two square matrices on a device: (seconds, rows of each)."""
    side = SIDE.get(device.type, USUAL)
    a = torch.randn(side, side, device=device).to(dtype)
    spans = []
    for _ in range(REPEATS):
        begin = start_span(device)
        a @ a
        spans.append(end_span(begin, device))
    # The first one makes room and picks a kernel.
    return max(min(elapsed(span) for span in spans[1:]), 1e-9), side
