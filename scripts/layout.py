"""Places the nodes of a workflow: a note at the left, then its steps, each in a box with its name, in columns.

A step is a number, and its name stands over its box. Steps of one column stand below each other; two steps of one name
next to each other share a box. In a step nodes stand below each other, some beside the one before. What is drawn is
small enough to be read when the front end fits all of it on a screen of 1920 x 1080: BOUNDS. Heights are those of the
classic front end with texts, views and pictures open.
"""

from __future__ import annotations

import re

import client

BOUNDS = (1900, 950)
NOTE = 0
# What the note at the left is called, which every workflow has.
FIRST = "Read me"
NAMES = {1: "1 Models", 2: "2 Prompt", 3: "3 Attention", 4: "4 Sample", 5: "5 Result"}
COLUMNS = ((1,), (2,), (3, 4), (5,))
# PAIR: of two nodes with widgets beside each other, which the front end makes no narrower than 210.
WIDTH, PAIR, WIDE = 280, 440, {NOTE: 300, 5: 440}
# Between nodes, around those of a box, the box's own title, a node's title.
GAP, PAD, TITLE, HEADER = 12, 12, 40, 30
ROW, WIDGET, LEAST = 20, 25, 34
# What only carries on what others made stands folded, unless asked for otherwise.
FOLDED = {
    "ConditioningZeroOut", "CreateVideo", "LTXVAudioVAEDecode", "LTXVConcatAVLatent", "LTXVConditioning",
    "LTXVEmptyLatentAudio", "LTXVPreprocess", "LTXVSeparateAVLatent", "VAEDecode", "VAEDecodeAudio", "VAEDecodeTiled",
    "VideoAttentionDemoVAE",
}  # fmt: skip
# What a node shows below its widgets: pictures, players, the lines of a prompt.
SHOWS = {
    "LoadImage": 220, "LoadVideo": 150, "SaveVideo": 268, "PreviewImage": 240, "SaveAnimatedWEBP": 260,
    "CLIPTextEncode": 70, "ImageCompare": 300, "MiniMaxH3ImageToVideo": 200, "MiniMaxH3ReferenceToVideo": 170,
    "StringConcatenate": 60,
}  # fmt: skip
# What this pack's nodes show, by what nodes/widgets/node.py tells of them, and with a view of their own.
TEXTS = {"report": 110, "note": 80, "line": 30}
VIEWS = {"report": 240, "compare": 360, "maps": 400, "plan": 300, "windows": 240}
# A note's letters a line and the height of a line.
LETTERS, LINE = 48, 15
# The front end makes no note lower.
LOWEST = 115
LINK = re.compile(r"\]\([^)]*\)")
# ComfyUI's own colours of nodes: green, red, and black for notes.
GREEN, RED, BLACK = ("#232", "#353"), ("#322", "#533"), ("#222", "#000")
BOX = "#3f789e"


def place(graph, columns=COLUMNS, names=NAMES, widths=WIDE, aside=()) -> list[dict]:
    """Give every node of `graph` its size and place. Returns the boxes around the steps, as the front end saves them.

    columns: the steps of each column, from left to right. ValueError where a node's step is in none.
    aside: steps below the note.
    """
    columns = ((NOTE, *aside), *columns)
    known = {step for column in columns for step in column}
    if lost := {node.step for node in graph.nodes} - known:
        raise ValueError(f"Steps {sorted(lost)} stand in no column; those that do: {sorted(known)}.")
    corners, x = {}, 0
    for column in columns:
        width = max(widths.get(step, WIDE.get(step, WIDTH)) for step in column)
        y = 0
        for step in column:
            nodes = [node for node in graph.nodes if node.step == step]
            y = _stack(graph, nodes, x + PAD, y + (TITLE if step in names else 0), width)
            if nodes and step in names:
                corners.setdefault(names[step], []).extend(nodes)
        x += width + 2 * PAD + GAP
    return [_box(number, name, nodes) for number, (name, nodes) in enumerate(corners.items(), 1)]


def _stack(graph, nodes: list, x: int, y: int, width: int) -> int:
    """Stand rows of nodes below each other. Returns where the next box may begin."""
    rows = []
    for node in nodes:
        rows[-1].append(node) if node.beside else rows.append([node])
    for row in rows:
        part = (width - GAP * (len(row) - 1)) // len(row)
        for number, node in enumerate(row):
            node.size = [part, height(graph, node)]
            node.pos = [x + number * (part + GAP), y + HEADER]
        y += HEADER + max(0 if node.folded else node.size[1] for node in row) + GAP
    return y + GAP


def _box(number: int, name: str, nodes: list) -> dict:
    left, top = min(n.pos[0] for n in nodes) - PAD, min(n.pos[1] for n in nodes) - HEADER - TITLE
    right = max(n.pos[0] + n.size[0] for n in nodes) + PAD
    bottom = max(n.pos[1] + (0 if n.folded else n.size[1]) for n in nodes) + PAD
    sides = [left, top, right - left, bottom - top]
    return {"id": number, "title": name, "bounding": sides, "color": BOX, "font_size": 24, "flags": {}}


def height(graph, node) -> int:
    """Tell how high a node stands in the front end, with what it shows after a run."""
    if node.kind == "MarkdownNote":
        lines = LINK.sub("]", node.inputs["text"]).splitlines()
        letters = LETTERS * graph.placing.get("widths", WIDE).get(node.step, WIDE[NOTE]) // WIDE[NOTE]
        return max(LOWEST, 40 + sum(LINE * max(1, -(-len(line) // letters)) for line in lines))
    told = graph.info[node.kind].get("video_attention") or {}
    shown = VIEWS.get(told.get("view")) or TEXTS.get(told.get("text")) or SHOWS.get(node.kind, 0)
    rows = max(len(graph.sockets(node)), len(node.outputs))
    return max(LEAST, 14 + ROW * rows + WIDGET * standing(graph, node) + (node.shows or shown))


def standing(graph, node) -> int:
    """Count the rows of a node's widgets on the classic canvas: web/idle.js hides some of this pack's."""
    widgets, told = graph.widgets(node), graph.info[node.kind].get("video_attention")
    rows = [(name, options, 1 + len(client.beside(name, options))) for name, _, options, _ in widgets]
    if told is None:
        return sum(high for *_, high in rows)
    hidden = idle(graph, node, told["idle"], {name: value for name, _, _, value in widgets})
    rows = [row for row in rows if row[0] not in hidden]
    advanced = {name for name, options, _ in rows if options.get("advanced") and name not in graph.linked(node)}
    return sum(high for name, _, high in rows if name not in advanced) + bool(advanced)


def idle(graph, node, rows: list[dict], values: dict) -> set[str]:
    """Name the widgets that have no effect, as web/idle.js does."""
    linked, used = graph.linked(node), graph.used(node)

    def holds(when: dict) -> bool:
        if "linked" in when:
            return when["linked"] in linked
        if "unused" in when:
            return when["unused"] not in used
        if when["widget"] not in values or when["widget"] in linked:
            return False
        found = values[when["widget"]]
        return found in when["one_of"] if "one_of" in when else found not in when["none_of"]

    return {name for row in rows if all(map(holds, row["when"])) for name in row["widgets"]} - linked
