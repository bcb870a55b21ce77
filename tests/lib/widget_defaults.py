"""The widgets of a node as they come."""

from __future__ import annotations


def defaults(node) -> dict:
    """Reads each widget's default, by its id; sockets and dynamic combos have none."""
    return {i.id: i.default for i in node.GET_SCHEMA().inputs if getattr(i, "default", None) is not None}
