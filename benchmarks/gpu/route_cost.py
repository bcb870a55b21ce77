"""Phase d: what one call through the router costs beside the kernel called directly, in processor time."""

from __future__ import annotations

import statistics

import torch
from torch.utils.benchmark import Timer

from ..dispatch import ways_of_routing
from .context import Context

ROUNDS, CALLS = 9, 1000


def run(context: Context) -> None:
    """Measure with tiny tensors: on the CPU, where the kernel's own work is least, and on the device."""
    place = context.place
    for where in dict.fromkeys((torch.device("cpu"), place.device)):
        q = torch.randn(1, 1, 8, 16, device=where).to(torch.float32 if where.type == "cpu" else place.dtype)
        ways, times = ways_of_routing(q), {}
        context.at(f"calls on {where.type}", 60)
        with torch.inference_mode():
            for way in ways.values():  # decides
                way()
            for _ in range(2 if place.dry else ROUNDS):
                for name, way in ways.items():
                    timer = Timer("way()", globals={"way": way})
                    times.setdefault(name, []).append(timer.timeit(5 if place.dry else CALLS).median * 1e6)
        base = statistics.median(times["host's function"])
        for name, each in times.items():
            us = statistics.median(each)
            context.row(call=name, tensors=where.type, us=us, ours_us=us - base)
