"""Tasks for the worker of benchmarks/gpu that fail in every way: `run(context, how)`."""

from __future__ import annotations

import os
import time

from benchmarks.gpu.context import Sick


def run(context, how: str) -> None:
    """Give a row, then meet the fault unless it is to be left out, then give another row."""
    if "first" not in context.without:
        context.row(kernel="first", ms=1.0, kept=True)
    if how not in context.without and how != "well":
        with context.attempt(how, bound=0.1 if how == "hangs" else 45.0):
            FAULTS[how]()
    context.row(kernel="last", ms=2.0)


def fails() -> None:
    raise RuntimeError("no such kernel\nmore")


def runs_out_of_memory() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


def hangs() -> None:
    time.sleep(1000)


def dies() -> None:
    os.kill(os.getpid(), 11)


def is_sick() -> None:
    raise Sick("the GPU did not answer")


FAULTS = {"fails": fails, "memory": runs_out_of_memory, "hangs": hangs, "dies": dies, "sick": is_sick}
