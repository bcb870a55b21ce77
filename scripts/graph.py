"""Builds a workflow in the form that the front end saves, from what a running ComfyUI tells of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import client

WIDTHS = {"MarkdownNote": 400}
WIDTH, GAP, TOP = 330, 40, 80
HEADER, ROW, WIDGET = 34, 20, 26
# What a node shows below its widgets: pictures, players, text.
SHOWS = {
    "LoadImage": 320, "SaveVideo": 320, "PreviewImage": 320, "SaveAnimatedWEBP": 320, "CLIPTextEncode": 100,
    "MarkdownNote": 180,
}  # fmt: skip
# Text of our nodes, as nodes/widgets/node.py calls it.
SHOWN = {"report": 150, "note": 80, "line": 26}
# Width of a node with a view, and the view's height.
VIEWED, VIEWS = 520, {"report": 320, "compare": 460, "maps": 460, "plan": 340, "windows": 260}
CORE_VERSION = "0.30.0"
PACK = "video-attention"


@dataclass(frozen=True)
class Socket:
    """An output of a node."""

    node: Node
    slot: int


@dataclass
class Node:
    """One node. inputs: name -> value of a widget, or the Socket it is linked to."""

    id: int
    kind: str
    column: int
    inputs: dict
    title: str | None
    mode: int
    models: tuple[dict, ...]
    outputs: list[tuple[str, str]]  # (type, name)
    size: list[int] = field(default_factory=lambda: [0, 0])
    pos: list[int] = field(default_factory=lambda: [0, 0])

    def __getitem__(self, output: int | str) -> Socket:
        names = [name for _, name in self.outputs]
        return Socket(self, output if isinstance(output, int) else names.index(output))


class Graph:
    """Nodes in columns, from left to right; those of a column stand below each other in the order they came."""

    def __init__(self, info: dict, version: str):
        self.info, self.version, self.nodes = info, version, []

    def add(self, kind: str, column: int, inputs: dict | None = None, title=None, mode=0, models=()) -> Node:
        """A node. KeyError for a node or an input that ComfyUI does not know."""
        spec = self.info[kind]
        outputs = list(zip(spec["output"], spec["output_name"], strict=True))
        node = Node(len(self.nodes) + 1, kind, column, inputs or {}, title, mode, tuple(models), outputs)
        known = {name for name, *_ in self.widgets(node)} | self.sockets(node).keys()
        if unknown := set(node.inputs) - known:
            raise KeyError(f"{kind} has no input {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
        self.nodes.append(node)
        return node

    def note(self, column: int, text: str) -> Node:
        node = Node(len(self.nodes) + 1, "MarkdownNote", column, {"text": text}, "Read me", 0, (), [])
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
        return {name: kind for name, (kind, *_) in every.items() if not client.is_widget(kind)}

    def to_workflow(self) -> dict:
        """The dictionary of the JSON file."""
        self._place()
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
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }

    def _place(self) -> None:
        x = GAP
        for column in sorted({node.column for node in self.nodes}):
            y, widest = TOP, 0
            for node in (n for n in self.nodes if n.column == column):
                node.size = self._size(node)
                node.pos = [x, y]
                y += node.size[1] + HEADER + GAP
                widest = max(widest, node.size[0])
            x += widest + 2 * GAP

    def _size(self, node: Node) -> list[int]:
        rows = max(len(self.sockets(node)), len(node.outputs))
        told = self.info.get(node.kind, {}).get("video_attention", {})
        view = told.get("view")
        shown = VIEWS.get(view) or SHOWN.get(told.get("text")) or SHOWS.get(node.kind, 0)
        if node.kind == "MarkdownNote":
            shown = 40 + 22 * sum(1 + len(line) // 46 for line in node.inputs["text"].splitlines())
        widgets = sum(1 + len(client.beside(name, options)) for name, _, options, _ in self.widgets(node))
        height = 10 + ROW * rows + WIDGET * widgets + shown
        return [VIEWED if view else WIDTHS.get(node.kind, WIDTH), max(60, height)]

    def _describe(self, node: Node, links: list) -> dict:
        widgets, inputs = self.widgets(node), []
        for name, kind in self.sockets(node).items():
            inputs.append(self._slot(node, name, kind, len(inputs), links))
        for name, kind, _, _ in widgets:
            slot = self._slot(node, name, "COMBO" if isinstance(kind, list) else kind, len(inputs), links)
            inputs.append({**slot, "widget": {"name": name}})
        described = {
            "id": node.id, "type": node.kind, "pos": node.pos, "size": node.size, "flags": {}, "order": node.id - 1,
            "mode": node.mode, "inputs": inputs,
            "outputs": [{"localized_name": n, "name": n, "type": t, "links": None} for t, n in node.outputs],
            "properties": self._properties(node), "widgets_values": saved_values(widgets),
        }  # fmt: skip
        if node.kind == "MarkdownNote":
            described["widgets_values"] = [node.inputs["text"]]
        return described | ({"title": node.title} if node.title else {})

    def _slot(self, node: Node, name: str, kind: str, slot: int, links: list) -> dict:
        source, number = node.inputs.get(name), None
        if isinstance(source, Socket):
            number = len(links) + 1
            links.append([number, source.node.id, source.slot, node.id, slot, source.node.outputs[source.slot][0]])
        return {"localized_name": name, "name": name, "type": kind, "link": number}

    def _properties(self, node: Node) -> dict:
        if node.kind not in self.info:
            return {}
        ours = node.kind.startswith("VideoAttention")
        origin = {"cnr_id": PACK, "ver": self.version} if ours else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
        models = {"models": list(node.models)} if node.models else {}
        return {"Node name for S&R": node.kind, **origin, **models}


def saved_values(widgets: list[tuple]) -> list:
    """widgets_values as the front end saves them: whole numbers without a point."""
    values = []
    for name, _, options, value in widgets:
        whole = isinstance(value, float) and value.is_integer()
        values += [int(value) if whole else value, *client.beside(name, options)]
    return values
