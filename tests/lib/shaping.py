"""The pattern nodes as tests use them."""

from __future__ import annotations

import pattern_rows
from tiny.case import parts
from widget_defaults import defaults

from attention import patterns as p

# Small enough for the tiny models' clips: the values of some widgets.
BY_HAND = {
    "temporal window": {"time": 1},
    "sliding tile": {"time": 1},
    "neighbourhood": {"time": 3},
    "radial": {"keep": 50.0, "first_frame": False},
}
# Every pattern that is one fixed mask, and every one that follows the tensors.
FIXED = tuple(row.name for row in pattern_rows.SIMPLE)
CHOSEN = tuple(row.name for row in p.TABLE if not pattern_rows.is_fixed(row))


def choices(pack) -> dict:
    """Pattern -> its widgets with their defaults, as the node has them."""
    given = next(i for i in pack.nodes.pattern.VideoAttentionPattern.GET_SCHEMA().inputs if i.id == "pattern")
    return {option.key: {i.id: default_of(i) for i in option.inputs} for option in given.options}


def default_of(widget):
    """What a widget holds on a new node: a combo without a default its first option."""
    options = getattr(widget, "options", None)
    return options[0] if options and widget.default is None else widget.default


def shaped(pack, model, pattern="spatial", latent=None, choice=None, **widgets):
    """The MODEL behind Video Attention Sparse Pattern, every step and size covered unless the widgets say otherwise.

    choice: widgets of the pattern that are not as they come.
    """
    node = pack.nodes.pattern.VideoAttentionPattern
    # Which engine is the fastest on a few tokens is chance.
    values = defaults(node) | {"start_percent": 0.0, "min_tokens": 0, "auto_choice": "table order", **widgets}
    chosen = {"pattern": pattern, **choices(pack)[pattern], **BY_HAND.get(pattern, {}), **(choice or {})}
    return node.execute(model, pattern=chosen, latent=latent, **values)


def error(out, truth) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(parts(out), parts(truth)))


def strengthened(pack, model, temperature=1.0, cross_frame=0.0, role="self", blocks=""):
    node = pack.nodes.pattern.VideoAttentionStrength
    return node.execute(model, temperature, cross_frame, role, blocks, 0.0, 1.0).args[0]
