"""What the host itself would run for a call, were no override of ours in its slot.

Newer ComfyUIs let a model's file name an attention function for each of its modules. They look at it only while the
slot is empty, so whatever of ours stands there runs it for every call that it leaves alone. Source: wrap_attn and
ComfyAttention in comfy/ldm/modules/attention.py, Comfy-Org/ComfyUI@05080f60, and as a list of choices in later ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ..backends import registry
from ..core.site import site_of

NAMED = "named by the model's file"


def own_function(options: Mapping) -> Callable | None:
    """Find the function that the model's file names for the module that makes a call, None where it names none.

    options: the call's transformer_options, with its AttentionSite.
    """
    site = site_of(options)
    return None if site is None or site.own is None else site.own.function


def host_function(func: Callable, previous, options: Mapping) -> Callable:
    """Find what ComfyUI would run with its slot empty.

    func: the function that the model called.
    previous: the override below us, or None. With one it is `func`, as that one would get it without us.
    options: as in own_function.
    """
    return func if previous is not None else own_function(options) or func


def following(func: Callable, previous, options: Mapping) -> Callable:
    """Find what runs a call that nothing of ours takes: the override found in the slot, or the host's own.

    func: as in host_function.
    previous: as in host_function.
    options: as in host_function.
    """
    return partial(previous, func) if previous is not None else own_function(options) or func


def name_of(function) -> str:
    """Name a function: `sage` for attention_sage, `comfy_kitchen_sol, tau 1.3` for one that is bound to arguments."""
    if isinstance(function, partial):
        bound = (f", {name} {value:g}" for name, value in function.keywords.items() if isinstance(value, (int, float)))
        return "".join((name_of(function.func), *bound))
    return getattr(function, "__qualname__", "unknown").removeprefix("attention_")


def host_name(func, own) -> str:
    """Name what the host runs: `host default (pytorch)`, or with what the model's file names.

    func: the host's attention function.
    own: the function that the model's file names, None without one.
    """
    return f"{registry.HOST} ({name_of(func) if own is None else f'{name_of(own)}, {NAMED}'})"


def sentence(holders: Iterable) -> str:
    """Say in one line what a model's file names; empty where it names nothing.

    holders: of its attention modules.
    """
    runs, lost = Counter(), Counter()
    for holder in holders:
        if holder.function is not None:
            runs[name_of(holder.function)] += 1
        elif config := getattr(holder, "config", None):
            # Older hosts keep one choice, newer ones a list, the first that runs counts.
            first = config[0] if isinstance(config, list) else config
            lost[str(first.get("attention"))] += 1
    told = [f"{name} for {n} attention module{'s' * (n > 1)}" for name, n in runs.items()]
    told += [f"{name} for {n} that cannot run here" for name, n in lost.items()]
    return f"The model's file names a kernel: {', '.join(told)}. Calls without a rule run it." if told else ""
