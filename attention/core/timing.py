"""Measures spans of time without waiting for a GPU while it works."""

from __future__ import annotations

import time

import torch


def start_span(device: torch.device):
    """Start a stopwatch: a CUDA event, which does not wait for the GPU, or the wall clock elsewhere.

    device: the one that works.
    """
    if device.type != "cuda":
        return time.perf_counter()
    begin = torch.cuda.Event(enable_timing=True)
    begin.record(torch.cuda.current_stream(device))
    return begin


def end_span(begin, device: torch.device):
    """Stop a stopwatch: the span between, for elapsed.

    begin: what start_span gave.
    device: as there.
    """
    if device.type != "cuda":
        return time.perf_counter() - begin
    end = torch.cuda.Event(enable_timing=True)
    end.record(torch.cuda.current_stream(device))
    return begin, end


def joined(first, last):
    """Return two spans as one.

    first: what end_span gave.
    last: of a call after it.
    """
    return first + last if isinstance(first, float) else (first[0], last[1])


def elapsed(span) -> float:
    """Return the seconds of a span; waits for the GPU here, when the report is made.

    span: what end_span or joined gave.
    """
    if isinstance(span, float):
        return span
    begin, end = span
    end.synchronize()
    return begin.elapsed_time(end) / 1000.0
