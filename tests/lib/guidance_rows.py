"""The guidance of the table and the nodes that make it, as their own schemas have them.

Nothing here names a row or a node: a row that is added to guidance.TABLE is tried as soon as it and its node are there.
"""

from __future__ import annotations

import re
from functools import cache

from widget_defaults import defaults

from attention.guidance import TABLE, Guidance

# What a node's own text says when it is switched off.
OFF = re.compile(r"(.+) is off: the model is as it came\.")


def acting(values: dict, least: dict) -> dict:
    """Values at which a node acts on a tiny model: a whole number at its least, which means "as is known", is one more.

    values: of the widgets, as they come.
    least: of each whole number its smallest value.
    """
    return {name: value + 1 if name in least and value == least[name] else value for name, value in values.items()}


def acting_defaults(node) -> dict:
    """`acting` values of a node class."""
    whole = {i.id: i.min for i in node.GET_SCHEMA().inputs if i.io_type == "INT"}
    return acting(defaults(node), whole)


def execute(node, model, **widgets) -> tuple:
    """What a guidance node gives, with acting values unless given: the model, and its text."""
    out = node.execute(model, **{**acting_defaults(node), **widgets})
    return out.args[0], out.ui.as_dict()["text"][0]


@cache
def nodes_of(pack) -> dict:
    """Guidance's name -> its node: switched off, a node names the guidance that it is for."""
    return {OFF.fullmatch(execute(node, None, enabled=False)[1])[1]: node for node in pack.nodes.guidance.NODES}


def off_values(row: Guidance, node) -> list[dict]:
    """Every way to switch a row off: `enabled`, and each "WIDGET VALUE" of what the row says."""
    names = [i.id for i in node.GET_SCHEMA().inputs]
    said = [(word, float(number)) for word, number in re.findall(r"(\w+) (\d+(?:\.\d+)?)", row.off)]
    return [{"enabled": False}] + [
        {name: number} for word, number in said for name in names if name == word or name.endswith(f"_{word}")
    ]


def has_steps(node) -> bool:
    """Whether a node asks for the steps that it covers."""
    return "start_percent" in defaults(node)


NAMES = tuple(row.name for row in TABLE)
