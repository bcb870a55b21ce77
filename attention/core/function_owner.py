"""The owner of an attention function, in words that a user knows: the folder of a pack, or a node of ComfyUI's own."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, MethodType

# ComfyUI calls a pack's modules by their path, dots written as _x_: /ComfyUI/custom_nodes/a_pack.nodes.sage
BELOW = re.compile(r"(?:^|[/\\.])custom_nodes[/\\.]([^/\\.]+)")
# A folder of packs may have any name in extra_model_paths.yaml: a module whose name is a path belongs to one.
PATH = re.compile(r"[/\\]([^/\\.]+)[^/\\]*$")
FOLDER = re.compile(r"[/\\]custom_nodes[/\\]([^/\\]+)")
EXTRAS = re.compile(r"(?:^|[/\\.])comfy_extras[/\\.](\w+)")
# What sets attention in ComfyUI itself, and its node as menus show it.
SETTER = "set_model_optimized_attention"
NODES = {"nodes_sparse_attention": "Model Sparse Attention", SETTER: "Model Attention Backend"}
OTHER = "other override"
ROOT = __name__.rpartition(".attention.")[0] or __name__.partition(".")[0]
FUNCTIONS = (FunctionType, MethodType, functools.partial)
# This pack may itself lie in custom_nodes, its tests with it.
HERE = str(Path(__file__).resolve().parents[2])


def owner_of(attention: Callable) -> str:
    """Name the pack that an attention function comes from, `ComfyUI's <node>`, or `other override (<its name>)`.

    The first that tells: the function's own module or file, those of what it wraps, and for a function that ComfyUI
    made around another one, of that.
    """
    inside = tuple(_inside(attention))
    told = (*map(_pack, inside), *map(_node, inside))
    return next(filter(None, told), None) or f"{OTHER} ({_name(inside[-1])})"


def set_by_host(attention: Callable) -> bool:
    """Return whether ComfyUI's own method put an override into the slot, which replaces what it finds there."""
    return SETTER in getattr(attention, "__qualname__", "") and _module(attention).startswith("comfy.")


def pack_of(found: Callable) -> str | None:
    """Name the pack that something comes from; None for ComfyUI's own and for what has no folder.

    found: a function, an object or a class.
    """
    return next(filter(None, map(_pack, _inside(found))), None)


def patched_by(module: object) -> str | None:
    """Name the pack or the node of ComfyUI's that put a function of its own on one module, None when nobody did."""
    own = [each for each in vars(module).values() if isinstance(each, FUNCTIONS)]
    told = (*map(pack_of, own), *map(_node, own), pack_of(type(module)))
    return next(filter(None, told), None)


def is_ours(attention: Callable) -> bool:
    """Return whether an override is one of this pack's."""
    return f"{_module(attention)}.".startswith(f"{ROOT}.")


def chained(attention: Callable, matches: Callable[[object], bool], depth: int = 4) -> bool:
    """Return whether an override holds what is looked for: only then it can pass calls on to it.

    attention: the override.
    matches: tells whether an object is the one.
    depth: how many objects may hold one another on the way.
    """
    held = tuple(_held(attention)) if depth else ()
    return any(map(matches, held)) or any(chained(each, matches, depth - 1) for each in held)


def _held(attention) -> Iterator:
    """Yield what a function, a partial or an object with a method __call__ keeps, as far as it may be called."""
    if isinstance(attention, functools.partial):
        yield attention.func
        kept = (*attention.args, *attention.keywords.values())
    else:
        kept = [*_cells(attention), *(getattr(attention, "__defaults__", None) or ())]
        kept += (getattr(attention, "__kwdefaults__", None) or {}).values()
        bound = getattr(attention, "__self__", None)
        for each in (attention, bound):
            kept += getattr(each, "__dict__", {}).values()
        kept.append(bound)
    yield from (each for each in kept if callable(each) and not isinstance(each, type))


def _cells(attention) -> list:
    found = []
    for cell in getattr(attention, "__closure__", None) or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    return found


def _inside(attention) -> Iterator[Callable]:
    """Yield the function and, one in another, those that it stands for. A wrapper is told before what it wraps."""
    while attention is not None:
        yield attention
        wrapped = getattr(attention, "func", None) if isinstance(attention, functools.partial) else None
        wrapped = wrapped or getattr(attention, "__wrapped__", None)
        if wrapped is None and set_by_host(attention):
            wrapped = next(filter(callable, _cells(attention)), None)
        attention = wrapped


def _pack(attention: Callable) -> str | None:
    if is_ours(attention):
        return None
    module = _module(attention)
    # As text too: ComfyUI's own folder may lie below another of this name.
    found = (BELOW.findall(module) or FOLDER.findall(_file(attention)))[-1:]
    found = found or ([] if EXTRAS.search(module) else PATH.findall(module))
    return found[0].replace("_x_", ".").removesuffix(".py") if found else None


def _node(attention: Callable) -> str | None:
    if set_by_host(attention):
        return f"ComfyUI's {NODES[SETTER]}"
    found = EXTRAS.search(_module(attention)) or EXTRAS.search(_file(attention))
    if found:
        return f"ComfyUI's {NODES.get(found[1], found[1])}"
    return None


def _module(attention: Callable) -> str:
    named = attention if hasattr(attention, "__qualname__") else type(attention)
    return getattr(named, "__module__", None) or ""


def _file(attention: Callable) -> str:
    """Return where its code is, unless here: functools.wraps gives a function the module of what it wraps."""
    of = attention if hasattr(attention, "__code__") else type(attention).__call__
    file = getattr(getattr(of, "__code__", None), "co_filename", "")
    return "" if file.startswith(HERE) else file


def _name(attention: Callable) -> str:
    return getattr(attention, "__qualname__", type(attention).__qualname__)
