"""Which widgets of a node have no effect as the node is set. web/idle.js hides them until they matter; values stay.

A node's IDLE is a tuple of what `idle` makes: in each, all of `when` must hold, and one of them is enough. It is plain
data, since it goes to the page with the node's definition.
"""

from __future__ import annotations


def idle(*widgets: str, when: tuple[dict, ...]) -> dict:
    """Makes a row: the widgets of these names have no effect while all of `when` holds.

    Names are those of a prompt: `pattern.time` is the widget `time` of the dynamic combo `pattern`.
    """
    return {"widgets": list(widgets), "when": list(when)}


def one_of(widget: str, *values) -> dict:
    """Says that a widget holds one of some values. It does not while another node gives its value."""
    return {"widget": widget, "one_of": list(values)}


def none_of(widget: str, *values) -> dict:
    """Says that a widget holds another than some values. It does not while another node gives its value."""
    return {"widget": widget, "none_of": list(values)}


def linked(name: str) -> dict:
    """Says that an input is connected."""
    return {"linked": name}


def unused(output: str) -> dict:
    """Says that an output is connected to nothing."""
    return {"unused": output}


def switched_off(*widgets: str) -> tuple[dict, ...]:
    """Makes the row of a node with the switch `enabled`: off, nothing else counts."""
    return (idle(*widgets, when=(one_of("enabled", False),)),)


def own_levels(*widgets: str) -> dict:
    """Makes the row of a node whose noise levels another node may give: those of these widgets make them otherwise."""
    return idle(*widgets, when=(linked("sigmas"),))
