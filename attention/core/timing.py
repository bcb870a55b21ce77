"""Measures spans of time without waiting for a GPU while it works."""

from __future__ import annotations

import time

import torch

# Devices that work on while the program goes on, and whose module in torch has events.
WITH_EVENTS = ("cuda", "xpu", "mps")


def start_span(device: torch.device):
    """Start a stopwatch: a GPU's event, which does not wait for it, or the wall clock elsewhere.

    device: the one that works.
    """
    return _event(device) if device.type in WITH_EVENTS else time.perf_counter()


def _event(device: torch.device):
    module = getattr(torch, device.type)
    event = module.Event(enable_timing=True)
    # Apple's GPU has one stream.
    event.record(*() if device.type == "mps" else (module.current_stream(device),))
    return event


def end_span(begin, device: torch.device):
    """Stop a stopwatch: the span between, for elapsed.

    begin: what start_span gave.
    device: as there.
    """
    return (begin, _event(device)) if device.type in WITH_EVENTS else time.perf_counter() - begin


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
