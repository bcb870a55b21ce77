"""Builds a workflow in the form that the front end saves, from what a running ComfyUI tells of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import client
import layout

AUTOGROW = "COMFY_AUTOGROW"  # an input that gives as many sockets as are linked, and one more
CORE_VERSION = "0.30.0"
PACK = "video-attention"


@dataclass(frozen=True)
class Socket:
    """An output of a node."""

    node: Node
    slot: int


@dataclass
class Node:
    """One node. inputs: name -> value of a widget, or the Socket it is linked to.

    step: where it stands, see layout.py.
    shows: the height of what it shows below its widgets; 0: what layout.py says of its kind.
    beside: whether it stands to the right of the node before it in its step, not below.
    folded: whether it is a title alone, which opens at a click on its dot.
    """

    id: int
    kind: str
    step: int
    inputs: dict
    title: str | None
    mode: int
    models: tuple[dict, ...]
    outputs: list[tuple[str, str]]  # (type, name)
    color: tuple[str, str] | None = None
    shows: int = 0
    beside: bool = False
    folded: bool = False
    size: list[int] = field(default_factory=lambda: [0, 0])
    pos: list[int] = field(default_factory=lambda: [0, 0])

    def __getitem__(self, output: int | str) -> Socket:
        names = [name for _, name in self.outputs]
        return Socket(self, output if isinstance(output, int) else names.index(output))


class Graph:
    """Nodes in steps; those of a step stand below each other in the order they came.

    placing: what layout.place takes besides the graph, where a workflow differs.
    """

    def __init__(self, info: dict, version: str):
        self.info, self.version, self.nodes, self.placing = info, version, [], {}

    def add(self, kind: str, step: int, inputs: dict | None = None, title=None, mode=0, models=(), **looks) -> Node:
        """A node. KeyError for a node or an input that ComfyUI does not know."""
        spec = self.info[kind]
        outputs = list(zip(spec["output"], spec["output_name"], strict=True))
        looks = {"folded": kind in layout.FOLDED} | looks
        node = Node(len(self.nodes) + 1, kind, step, inputs or {}, title, mode, tuple(models), outputs, **looks)
        known = {name for name, *_ in self.widgets(node)} | self.sockets(node).keys()
        if unknown := set(node.inputs) - known:
            raise KeyError(f"{kind} has no input {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
        self.nodes.append(node)
        return node

    def note(self, text: str, step: int = layout.NOTE, title: str = layout.FIRST) -> Node:
        """What a newcomer reads first, at the left, or what belongs to a step."""
        number = len(self.nodes) + 1
        node = Node(number, "MarkdownNote", step, {"text": text}, title, 0, (), [], layout.BLACK)
        self.nodes.append(node)
        return node

    def widgets(self, node: Node) -> list[tuple]:
        """(name, type, options, value) of each widget; a linked one keeps its default."""

        def take(name, kind, options):
            given = node.inputs.get(name)
            return client.first_value(kind, options) if given is None or isinstance(given, Socket) else given

        return list(client.walk_widgets(self.info[node.kind]["input"], take)) if node.kind in self.info else []

    def sockets(self, node: Node) -> dict[str, str]:
        """Name -> type of the inputs that are not widgets."""
        if node.kind not in self.info:
            return {}
        given = self.info[node.kind]["input"]
        every = given.get("required", {}) | given.get("optional", {})
        sockets = {}
        for name, (kind, *more) in every.items():
            if client.is_widget(kind):
                continue
            grows = kind.startswith(AUTOGROW)
            sockets |= grown(name, more[0]["template"], node.inputs) if grows else {name: kind}
        return sockets

    def linked(self, node: Node) -> set[str]:
        """Names of the inputs that another node gives."""
        return {name for name, given in node.inputs.items() if isinstance(given, Socket)}

    def used(self, node: Node) -> set[str]:
        """Names of the outputs that another node takes."""
        given = [socket for other in self.nodes for socket in other.inputs.values() if isinstance(socket, Socket)]
        return {node.outputs[socket.slot][1] for socket in given if socket.node is node}

    def to_workflow(self) -> dict:
        """The dictionary of the JSON file."""
        boxes = layout.place(self, **self.placing)
        links = []
        described = [self._describe(node, links) for node in self.nodes]
        for link in links:
            outputs = described[link[1] - 1]["outputs"][link[2]]
            outputs["links"] = [*(outputs["links"] or []), link[0]]
        return {
            "id": "00000000-0000-0000-0000-000000000000",
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(links),
            "nodes": described,
            "links": links,
            "groups": boxes,
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _describe(self, node: Node, links: list) -> dict:
        widgets, inputs = self.widgets(node), []
        for name, kind in self.sockets(node).items():
            inputs.append(self._slot(node, name, kind, len(inputs), links))
        for name, kind, _, _ in widgets:
            slot = self._slot(node, name, "COMBO" if isinstance(kind, list) else kind, len(inputs), links)
            inputs.append({**slot, "widget": {"name": name}})
        flags = {"collapsed": True} if node.folded else {}
        described = {
            "id": node.id, "type": node.kind, "pos": node.pos, "size": node.size, "flags": flags, "order": node.id - 1,
            "mode": node.mode, "inputs": inputs,
            "outputs": [{"localized_name": n, "name": n, "type": t, "links": None} for t, n in node.outputs],
            "properties": self._properties(node), "widgets_values": saved_values(widgets),
        }  # fmt: skip
        if node.kind == "MarkdownNote":
            described["widgets_values"] = [node.inputs["text"]]
        looks = {"color": node.color[0], "bgcolor": node.color[1]} if node.color else {}
        return described | ({"title": node.title} if node.title else {}) | looks

    def _slot(self, node: Node, name: str, kind: str, slot: int, links: list) -> dict:
        source, number = node.inputs.get(name), None
        if isinstance(source, Socket):
            number = len(links) + 1
            links.append([number, source.node.id, source.slot, node.id, slot, source.node.outputs[source.slot][0]])
        described = {"localized_name": name, "name": name, "type": kind, "link": number}
        grown = node.kind in self.info and name in self.sockets(node) and "." in name
        return described | ({"label": name.rsplit(".", 1)[1]} if grown else {})

    def _properties(self, node: Node) -> dict:
        if node.kind not in self.info:
            return {}
        ours = node.kind.startswith("VideoAttention")
        origin = {"cnr_id": PACK, "ver": self.version} if ours else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
        models = {"models": list(node.models)} if node.models else {}
        return {"Node name for S&R": node.kind, **origin, **models}


def grown(name: str, template: dict, given: dict) -> dict[str, str]:
    """Name -> type of the sockets of an input that grows: those linked, and one more to link."""
    (socket,) = template["input"]["required"].values()
    first = f"{name}.{template['prefix']}"
    linked = sum(key.startswith(first) for key in given)
    return {f"{first}{index}": socket[0] for index in range(min(linked + 1, template["max"]))}


def saved_values(widgets: list[tuple]) -> list:
    """widgets_values as the front end saves them: whole numbers without a point."""
    values = []
    for name, _, options, value in widgets:
        whole = isinstance(value, float) and value.is_integer()
        values += [int(value) if whole else value, *client.beside(name, options)]
    return values
