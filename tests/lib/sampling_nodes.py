"""The nodes that run a model on a LATENT, from the snapshots of their schemas, and one small run of each.

test_nodes.py holds the snapshots to the node classes: a node that is added, or an option of a sampler, is tried as soon
as its snapshot is written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from widget_defaults import defaults

SNAPSHOTS = Path(__file__).resolve().parents[1] / "nodes" / "snapshots"
SCHEMAS = {file.stem: json.loads(file.read_text()) for file in sorted(SNAPSHOTS.glob("*.json"))}
# Whichever of these a node has: few steps, windows that fit a tiny clip. Every other widget is as it comes.
SMALL = {
    "steps": 2, "cfg": 1.0, "cfg_high": 1.0, "cfg_low": 1.0, "switch_at": "step", "switch_step": 1,
    "between": {"between": "nothing"}, "unit": "latent frames", "overlap": 1.0, "seeds": 1, "block_groups": 1,
    "step_ranges": 1, "candidates": "kernels",
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """One way to run a model: the id of a node, and a choice in one of its combos."""

    node: str
    choice: dict = field(default_factory=dict, hash=False)

    def __str__(self):
        return " ".join((self.node.removeprefix("VideoAttention"), *self.choice.values()))


def types(name: str) -> set[str]:
    """Types of the inputs that a node cannot be without."""
    return {each["type"] for each in SCHEMAS[name]["inputs"] if not each.get("optional")}


def options(name: str, combo: str) -> tuple[str, ...]:
    """What a combo of a node offers."""
    return next(tuple(each["options"]) for each in SCHEMAS[name]["inputs"] if each["id"] == combo)


def choices(name: str) -> list[dict]:
    """Every option of each combo that SMALL leaves open; one empty choice for a node without any."""
    open_ones = [
        each for each in SCHEMAS[name]["inputs"]
        if each["type"] == "COMBO" and each.get("options") and each["id"] not in SMALL
    ]  # fmt: skip
    return [{each["id"]: option} for each in open_ones for option in each["options"]] or [{}]


RUN = [name for name in SCHEMAS if "LATENT" in types(name) and types(name) & {"CONDITIONING", "GUIDER"}]
SAMPLE = [name for name in RUN if SCHEMAS[name]["category"].endswith("/sample")]
SAMPLERS = tuple(Way(name, choice) for name in SAMPLE for choice in choices(name))
# Samplers and measurements.
WAYS = (*SAMPLERS, *(Way(name) for name in RUN if name not in SAMPLE))
METHODS = options("VideoAttentionLongSampler", "method")


def run(way: Way, studio, latent: dict, sampler: str = "euler", seed: int = 0, window: float = 2.0, **widgets):
    """What a node gives for a LATENT.

    studio: of the model and its prompts.
    sampler: method of steps.
    window: of samplers that have one, in latent frames.
    widgets: of the node, where it has them.
    """
    node = next(node for node in studio.pack.nodes.NODES if node.GET_SCHEMA().node_id == way.node)
    inputs = node.GET_SCHEMA().inputs
    values = defaults(node)
    sockets = ("NOISE", "GUIDER", "SAMPLER", "SIGMAS")
    given = dict(zip(sockets, studio.neighbours(noise=seed, sampler=sampler, cfg=1.0), strict=True))
    given |= {"MODEL": studio.model, "LATENT": latent}
    values |= {i.id: given[i.io_type] for i in inputs if i.io_type in given and not i.optional}
    common = {"positive": studio.positive, "negative": studio.negative, "sampler_name": sampler, "seed": seed}
    wanted = {**SMALL, **common, "window": window, **widgets, **way.choice}
    known = {i.id for i in inputs}
    return node.execute(**values | {name: value for name, value in wanted.items() if name in known})
