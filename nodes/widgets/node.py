"""The base of this pack's nodes: what the page and other nodes must know of a node beside its schema."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.askers import short_name
from . import search_words

# How the page shows a node's text on it: a tall area, an area, one line.
REPORT, NOTE, LINE = "report", "note", "line"
# The key of a node's definition that web/*.js reads.
KEY = "video_attention"


class Node(io.ComfyNode):
    """A node of this pack. What it does stands in its schema, of which page and help are made.

    TEXT: how its text is shown on it: REPORT, NOTE or LINE; None for a node without one.
    COUNTS_ATTENTION: whether the sampling of a MODEL that it gives is counted, so that there is a report of it. Read
        in nodes/host/workflow_graph.py.
    SAMPLES: whether it sends previews of a clip, which move.
    VIEW: which of the views of web/box.js shows what it found; None for its text alone.
    EXAMPLE: the workflow of this pack that the page offers on a new one, which runs on the demo model; None for none.
    IDLE: which widgets have no effect when, by rows of widgets/idle.py: web/idle.js hides them.
    """

    TEXT: str | None = None
    COUNTS_ATTENTION = False
    SAMPLES = False
    VIEW: str | None = None
    EXAMPLE: str | None = None
    IDLE: tuple[dict, ...] = ()

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict:
        """Gives the node's definition as the page asks for it, with what web/*.js must know and words to find it by."""
        info = super().GET_NODE_INFO_V1()
        # The page translates names and tooltips, not these: who types in Chinese finds nothing in an English list.
        words = dict.fromkeys([*(info.get("search_aliases") or ()), *search_words.of_other_languages(info["name"])])
        shown = {"text": cls.TEXT, "samples": cls.SAMPLES, "view": cls.VIEW, "example": cls.EXAMPLE}
        # As sentences call it, in English: the page shows it in its own language.
        told = {**shown, "idle": list(cls.IDLE), "name": short_name(info["display_name"])}
        return {**info, "search_aliases": list(words), KEY: told}
