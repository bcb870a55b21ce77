"""What Benchmark measures of memory: the peak of a call, and how many tokens would fit by how that grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

from ..backends.autotune import KernelTrial
from ..core.geometry import Geometry
from ..core.peak_memory import in_mib, peak_if_it_runs
from ..routing.attention_call import AttentionCall

HEADS = ("peak MiB", "most tokens that fit")
# Kernels work on blocks of tokens, and some take whole ones alone.
BLOCK = 128
# What grows by less than this share of a call more than its tokens do counts as growing with them.
SQUARE = 0.02


def measured(trial: KernelTrial, run: Callable, call: AttentionCall) -> KernelTrial:
    """Add to a trial what its kernel takes for a call, and for one with half of the tokens; nothing where it failed.

    run: run(call) answers a call.
    """
    if trial.reason is not None:
        return trial
    # The table has its time already: what fails now has no peak.
    half = half_of(call)
    peaks = [None if one is None else peak_if_it_runs(lambda one=one: run(one), one.q.device) for one in (call, half)]
    return replace(trial, peak=peaks[0], peak_of_half=peaks[1])


def half_of(call: AttentionCall) -> AttentionCall | None:
    """Make the call with half of its tokens: of the queries alone where they are not as many as the keys.

    None where it has a mask, or is too short to tell anything.
    """
    axis = 2 if call.split_in else 1
    length = call.q.shape[axis]
    half = length // 2 // BLOCK * BLOCK
    if call.mask is not None or not half:
        return None
    same = call.k.shape[axis] == length
    q, k, v = (t.narrow(axis, 0, half) if same or t is call.q else t for t in (call.q, call.k, call.v))
    return call.but(q=q, k=k, v=v)


def most_tokens(trial: KernelTrial, geometry: Geometry, free: int) -> int | None:
    """Compute how many tokens a call may have for all of it to fit into `free` bytes; None where nothing tells.

    Its heads, head size and batch as they are. Keys grow with the queries where both are as many. The peak is taken to
    grow as tokens do, and as their square by what the half and the whole call say.
    """
    length, half = geometry.q_len, geometry.q_len // 2 // BLOCK * BLOCK
    if trial.peak is None or trial.peak_of_half is None or not half:
        return None
    each, each_of_half = trial.peak / length, trial.peak_of_half / half
    square = (each - each_of_half) / (length - half)
    if square * length < SQUARE * each:
        square = 0.0
    heads = geometry.heads + (2 * geometry.kv_heads if geometry.kv_len == length else 0)
    given = geometry.batch * heads * geometry.head_dim * geometry.dtype.itemsize
    linear = each - square * length + given
    if not square:
        return int(free / linear)
    return int((sqrt(linear * linear + 4 * square * free) - linear) / (2 * square))


def cells(trial: KernelTrial, geometry: Geometry, free: int | None) -> tuple[str, str]:
    """Write what stands below HEADS for a kernel."""
    most = None if free is None else most_tokens(trial, geometry, free)
    return "-" if trial.peak is None else in_mib(trial.peak), "-" if most is None else f"{most:,}"
