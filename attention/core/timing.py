"""Stopwatches that never wait for a GPU while it works."""

from __future__ import annotations

import time

import torch


def start_span(device: torch.device):
    """A running stopwatch: CUDA events, which do not wait for the GPU, or the wall clock."""
    if device.type != "cuda":
        return time.perf_counter()
    begin = torch.cuda.Event(enable_timing=True)
    begin.record(torch.cuda.current_stream(device))
    return begin


def end_span(begin, device: torch.device):
    """Stops what start_span started."""
    if device.type != "cuda":
        return time.perf_counter() - begin
    end = torch.cuda.Event(enable_timing=True)
    end.record(torch.cuda.current_stream(device))
    return begin, end


def joined(first, last):
    """The span of two calls, one after the other."""
    return first + last if isinstance(first, float) else (first[0], last[1])


def elapsed(span) -> float:
    """Seconds of a stopped span; waits for the GPU here, when the report is made."""
    if isinstance(span, float):
        return span
    begin, end = span
    end.synchronize()
    return begin.elapsed_time(end) / 1000.0
