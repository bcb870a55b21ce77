"""A workflow with subgraphs as the front end saves it -> the prompt that ComfyUI runs.

Follows subgraphs (nested too), bypassed and muted nodes, Reroute and PrimitiveNode. A widget that a subgraph shows
outside has the value that the node inside holds when nothing is connected to it. Each node of the prompt also has its
`title` and the types of its `outputs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from client import BYPASSED, MUTED, beside, first_value, walk_widgets

INSIDE, OUTSIDE = -10, -20  # the nodes in a subgraph that stand for its inputs and its outputs
DRAWN = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}  # of the front end alone


@dataclass(frozen=True)
class Value:
    """What a PrimitiveNode holds. spare: what a subgraph's widget holds, for an input that has no widget of its own."""

    value: object
    spare: bool = False


class Scope:
    """One graph at one place. instance: the node that stands for it in `parent`; path: what its ids begin with."""

    def __init__(self, graph: dict, subgraphs: dict, info: dict, path="", parent=None, instance=None):
        self.graph, self.subgraphs, self.info = graph, subgraphs, info
        self.path, self.parent, self.instance = path, parent, instance
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.links = dict(map(_link, graph["links"]))

    def inner(self, node: dict) -> Scope:
        path = f"{self.path}{node['id']}:"
        return Scope(self.subgraphs[node["type"]], self.subgraphs, self.info, path, self, node)

    def source(self, link):
        """What a link brings: [key, output], a Value, or None."""
        if link is None or link not in self.links:
            return None
        origin, slot = self.links[link]
        if origin == INSIDE:
            return self._from_outside(self.graph["inputs"][slot]["name"])
        node = self.nodes[origin]
        if node.get("mode", 0) == MUTED:
            return None
        if node.get("mode", 0) == BYPASSED:
            return self.source(_passed(node, slot))
        if node["type"] == "Reroute":
            return self.source(node["inputs"][0].get("link"))
        if node["type"] == "PrimitiveNode":
            return Value(node["widgets_values"][0])
        if node["type"] in self.subgraphs:
            inner = self.inner(node)
            ends = inner.graph["outputs"][slot]["linkIds"]
            return inner.source(ends[0]) if ends else None
        return [f"{self.path}{origin}", slot]

    def _from_outside(self, name: str):
        slots = self.instance["inputs"]
        slot = next((slot for slot in slots if slot["name"] == name), None)
        if slot is not None and slot.get("link") is not None:
            return self.parent.source(slot["link"])
        return self._shown(name)

    def _shown(self, name: str):
        """What a widget holds that the subgraph shows outside: the first one inside that is connected to it."""
        for node in self.graph["nodes"]:
            for slot in node.get("inputs", ()):
                origin, number = self.links.get(slot.get("link"), (None, 0))
                if origin == INSIDE and self.graph["inputs"][number]["name"] == name and "widget" in slot:
                    held = _widgets(node, self.info[node["type"]]) if node["type"] in self.info else {}
                    if slot["name"] in held:
                        return Value(held[slot["name"]], spare=True)
        return None

    def live(self) -> Iterator[tuple[Scope, dict]]:
        """Every node that runs, with its scope."""
        for node in self.graph["nodes"]:
            if node.get("mode", 0) in (BYPASSED, MUTED) or node["type"] in DRAWN:
                continue
            if node["type"] in self.subgraphs:
                yield from self.inner(node).live()
            else:
                yield self, node


def expand(workflow: dict, info: dict) -> dict:
    """The prompt. info: of the nodes, as /object_info has it; of a node it does not know only the links are taken."""
    subgraphs = {graph["id"]: graph for graph in workflow.get("definitions", {}).get("subgraphs", ())}
    prompt = {}
    for scope, node in Scope(workflow, subgraphs, info).live():
        inputs = _widgets(node, info[node["type"]]) if node["type"] in info else {}
        for slot in node.get("inputs", ()):
            source = scope.source(slot.get("link"))
            if isinstance(source, Value):
                inputs[slot["name"]] = inputs.get(slot["name"], source.value) if source.spare else source.value
            elif source is not None:
                inputs[slot["name"]] = source
        prompt[f"{scope.path}{node['id']}"] = {
            "class_type": node["type"],
            "inputs": inputs,
            "title": node.get("title") or "",
            "outputs": [output["type"] for output in node.get("outputs", ())],
        }
    return prompt


def _link(link) -> tuple:
    """Its number, and where it begins. Subgraphs save links as dictionaries, the top as lists."""
    if isinstance(link, dict):
        return link["id"], (link["origin_id"], link["origin_slot"])
    return link[0], (link[1], link[2])


def _passed(node: dict, slot: int):
    """The link that a bypassed node hands on: the input of the same place and type, else the first of that type."""
    kind, inputs = node["outputs"][slot]["type"], node.get("inputs", ())
    same = [inputs[slot]] if slot < len(inputs) else []
    found = next((entry for entry in (*same, *inputs) if entry["type"] == kind), None)
    return found and found.get("link")


def _widgets(node: dict, info: dict) -> dict:
    named, values = node.get("widgets_values_named"), node.get("widgets_values") or []
    named = values if isinstance(values, dict) else named
    left = list(values)

    def take(name, kind, options):
        if named:
            return named.get(name, first_value(kind, options))
        value = left.pop(0) if left else first_value(kind, options)
        del left[: len(beside(name, options))]
        return value

    return {name: value for name, _, _, value in walk_widgets(info["input"], take) if value is not None}
