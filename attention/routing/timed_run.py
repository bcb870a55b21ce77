"""Measures calls: the time of each, and the memory of one of each kind."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..core.peak_memory import peak_of
from ..core.timing import end_span, start_span
from .attention_call import AttentionCall
from .run_stats import Decision


def timed(run: Callable, decision: Decision, call: AttentionCall) -> torch.Tensor:
    """Run a call and measure it, unless a router below us does.

    Counting bytes on a CPU slows the call that it is done in, the first behind those that are looked at.
    """
    device, below = call.peek().q.device, decision.below
    begin = start_span(device)
    out = _weighed(run, decision, call, device) if _is_open(decision) else run(call)
    if decision.below == below:
        decision.add_span(end_span(begin, device))
    return out


def _is_open(decision: Decision) -> bool:
    """Tell whether the memory of such calls is still to be measured: not in one that copies of ours are held in."""
    what = decision.used, decision.geometry
    return what not in decision.history.peaks and (decision.kernel is None or what in decision.history.proven)


def _weighed(run: Callable, decision: Decision, call: AttentionCall, device: torch.device) -> torch.Tensor:
    """Run a call and note how much memory it took."""
    below, kernel = decision.below, decision.kernel
    out, peak = peak_of(lambda: run(call), device)
    # One that fell back was two calls, and one that a router below us answered is that one's.
    if decision.below == below and decision.kernel is kernel:
        decision.history.peaks[decision.used, decision.geometry] = peak
    return out
