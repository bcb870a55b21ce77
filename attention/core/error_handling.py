"""Exceptions that must not end a render: their words for the report, and the memory that they hold freed."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import torch

from .reason import Reason

LONGEST = 300
# How libraries say it when they raise something else than torch's own class.
NO_MEMORY = ("out of memory", "allocate memory", "alloc_failed")


def text_of(error: BaseException) -> str:
    """Return the first line of an exception's text; empty where there is none, or where making it raises."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        return ""
    return lines[0].strip()[:LONGEST] if lines else ""


def error_message(error: BaseException) -> str:
    """Return the text alone, the class where there is none: for sentences that say what was tried."""
    return text_of(error) or type(error).__name__


def error_text(error: BaseException) -> str:
    """Return class and text, as `RuntimeError: no kernel image`."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory was missing, as torch, Triton and other libraries say it."""
    if isinstance(error, (MemoryError, getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError))):
        return True
    text = text_of(error).lower()
    return any(words in text for words in NO_MEMORY)


def free_frames(error: BaseException) -> None:
    """Free what the frames hold through which an exception came: the scratch of a failed kernel, gigabytes.

    Else that lives as long as the exception, or until the next garbage collection where a frame keeps the exception.
    """
    seen, waiting = set(), [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(others := getattr(one, "exceptions", None), tuple):
            waiting += others


def try_twice(run: Callable, device: torch.device | None, alone: bool = True):
    """Run what a render can do without, and once more where memory was missing: what it gives, or a Reason for that.

    device: whose memory is given back in between; None: of none. Other errors are the caller's.
    alone: whether this process may do without it by itself. Several GPUs or machines must all do the same: there every
        error is the caller's.
    """
    for _ in range(2):
        try:
            return run()
        except Exception as error:
            if not (alone and is_out_of_memory(error)):
                raise
            # Without its text, in which the numbers differ from time to time: it is counted by these words.
            reason = Reason(f"memory was missing ({type(error).__name__})")
            free_frames(error)
        if device is not None:
            free_cached_memory(device)
    return reason


def free_cached_memory(device: torch.device) -> None:
    """Give the driver what torch's allocator keeps for later: kernels that allocate by themselves cannot use that.

    device: of the tensors; nothing happens where it is no GPU.
    """
    if device.type in ("cuda", "xpu", "mps"):
        getattr(torch, device.type).empty_cache()
