"""The pattern nodes as tests use them."""

from __future__ import annotations

from tiny.case import parts

PATTERNS = {
    "spatial": {},
    "temporal": {},
    "temporal window": {"time": 1},
    "sliding tile": {"time": 1, "height": 50.0, "width": 50.0},
    "neighbourhood": {"time": 3, "height": 50.0, "width": 50.0},
    "radial": {"keep": 50.0, "time": 1, "first_frame": False},
}


def shaped(pack, model, pattern="spatial", latent=None, **widgets):
    """The MODEL behind Video Attention Pattern, every step and size covered unless the widgets say otherwise."""
    node = pack.nodes.pattern.VideoAttentionPattern
    skipped = ("model", "latent", "pattern")
    values = {i.id: i.default for i in node.GET_SCHEMA().inputs if i.id not in skipped}
    # Which engine is the fastest on a few tokens is chance.
    values |= {"start_percent": 0.0, "min_tokens": 0, "auto_choice": "table order", **widgets}
    choice = {"pattern": pattern, **(PATTERNS.get(pattern) or {})}
    return node.execute(model, pattern=choice, latent=latent, **values)


def error(out, truth) -> float:
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(parts(out), parts(truth)))


def strengthened(pack, model, temperature=1.0, cross_frame=0.0, role="self", blocks=""):
    node = pack.nodes.pattern.VideoAttentionStrength
    return node.execute(model, temperature, cross_frame, role, blocks, 0.0, 1.0).args[0]
