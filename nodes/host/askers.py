"""Which node a rule is of in the prompt that runs: ComfyUI keeps models, and with them rules, from earlier prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from comfy_execution.utils import get_executing_context

from nodes import NODE_DISPLAY_NAME_MAPPINGS

from ...attention.routing.rules import Asker
from . import workflow_graph
from .workflow_graph import Graph

Find = Callable[[Asker | None], Asker | None]


def short_name(display_name: str) -> str:
    """Gives a node's name without what stands in brackets behind it."""
    return display_name.partition(" (")[0]


def executing() -> Asker | None:
    """Names the node that is executing, as the page shows it; None outside of a prompt."""
    context = get_executing_context()
    if context is None:
        return None
    graph = workflow_graph.running(context.prompt_id)
    node = None if graph is None else graph.node(context.node_id)
    if node is None:
        return Asker(context.node_id, "a node")
    shown, kind = graph.shown(context.node_id), node["class_type"]
    name = short_name(NODE_DISPLAY_NAME_MAPPINGS.get(kind, kind))
    signatures = tuple(map(graph.signature, graph.around(context.node_id)))
    return Asker(shown, name, "timing" in node.get("inputs", {}), signatures)


def finder() -> Find:
    """Makes a function that names Askers as the prompt has them which runs now, for the node that is executing.

    What it gives stays as it is outside of a prompt.
    """
    context = get_executing_context()
    graph = None if context is None else workflow_graph.running(context.prompt_id)
    if graph is None or graph.node(context.node_id) is None:
        return lambda asker: asker
    return finder_before(graph, context.node_id)


def finder_before(graph: Graph, reader: str) -> Find:
    """Makes a function that names Askers as a prompt has them, for a node whose model has their rules.

    reader: id of that node. Of several nodes that are the same, those before it are meant.
    """
    ways = [cache(lambda: graph.up_from(reader)), cache(graph.all)]

    @cache
    def find(asker: Asker | None) -> Asker | None:
        if asker is None or not asker.signatures:
            return asker
        for nodes in ways:
            for signature in asker.signatures:
                found = [graph.shown(key) for key in nodes() if graph.signature(key) == signature]
                if found:
                    first, *others = dict.fromkeys(found)
                    return replace(asker, node=first, twins=tuple(others))
        return replace(asker, node="", twins=())

    return find
