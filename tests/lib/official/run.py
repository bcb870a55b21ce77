"""Puts our nodes where a user would, and runs a workflow with and without them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from client import first_value, walk_widgets

from attention.inspect.bypasses import NOBODY

from .small import is_link, samplers
from .stand_ins import Keep, Watch

KEEP, REPORT = "StandInKeep", "VideoAttentionReport"
BACKEND = {"backend": "sdpa"}
# All of height, width and time, in every step and however small the picture: dense.
WHOLE = {
    "pattern": "sliding tile", "pattern.height": 100.0, "pattern.width": 100.0, "pattern.time": 1000,
    "min_tokens": 0, "start_percent": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """latents: of each sampler, its parts; calls: of attention, as an override counted them; shown: by the nodes;
    classes: of all nodes."""

    latents: dict[str, list[torch.Tensor]]
    calls: int
    shown: dict[str, dict]
    classes: dict[str, str]

    @property
    def reported(self) -> int:
        """The calls of all samplers as their reports have them, but for those made past every override."""
        found = {
            node.removesuffix(f"~{REPORT}"): report
            for node, shown in self.shown.items()
            for report in shown.get("report", ())
        }
        made = {
            node: sum(row["calls"] for row in report["rows"] if row["used"] != NOBODY) for node, report in found.items()
        }
        # Behind samplers in a row a report is of all of them: each counts once.
        before = {node: {*map(self._node, report["stages"][:-1])} for node, report in found.items()}
        own: dict[str, int] = {}
        for node in sorted(found, key=lambda node: len(before[node])):
            own[node] = made[node] - sum(own[earlier] for earlier in before[node])
        return sum(own.values())

    def _node(self, stage: str) -> str:
        """The sampler that a line of a report is about: by its id, or the only one of its class."""
        name, node = re.match(r"\d+\. (.+?)(?: \(node ([^)]+)\))?: ", stage).groups()
        return node or next(key for key, kind in self.classes.items() if kind == name)

    def apart(self, other: Outcome) -> float:
        """The largest relative L2 between the parts of both."""
        assert self.latents.keys() == other.latents.keys()
        pairs = [pair for key in self.latents for pair in zip(self.latents[key], other.latents[key], strict=True)]
        return max(((a - b).double().norm() / b.double().norm().clamp(min=1e-12)).item() for a, b in pairs)


def plain(prompt: dict) -> dict:
    """With nothing of ours: each model is watched, each sampler's latent kept."""
    return _behind_models(prompt, lambda source: {"watch": _node("StandInWatch", model=source)}, [KEEP])


def ours(prompt: dict, info: dict, **pattern) -> dict:
    """With Backend and Pattern behind each model, a Report behind each sampler. pattern: other widgets of Pattern."""

    def patch(source):
        backend = _with_widgets(info["VideoAttentionBackend"], BACKEND)
        shape = _with_widgets(info["VideoAttentionPattern"], {**WHOLE, **pattern})
        return {
            "backend": _node("VideoAttentionBackend", model=source, **backend),
            "pattern": _node("VideoAttentionPattern", model=[f"{source[0]}~backend", 0], **shape),
        }

    return _behind_models(prompt, patch, [KEEP, REPORT])


def _behind_models(prompt: dict, patch, ends: list[str]) -> dict:
    """patch(source) -> the nodes behind a MODEL, the last one hands it on; ends: the nodes behind each sampler."""
    made, instead = {}, {}
    for key, node in prompt.items():
        types = node["inputs"].get("types", "").split() if node["class_type"] == "StandInMade" else []
        if "MODEL" in types:
            slot = types.index("MODEL")
            added = {f"{key}~{name}": value for name, value in patch([key, slot]).items()}
            instead[key, slot] = [list(added)[-1], 0]
            made |= added
    for key, node in prompt.items():
        inputs = {n: instead.get(tuple(v), v) if is_link(v) else v for n, v in node["inputs"].items()}
        made[key] = {"class_type": node["class_type"], "inputs": inputs}
    for key in samplers(prompt):
        made |= {f"{key}~{end}": _node(end, latent=[key, 0], **({"tag": key} if end == KEEP else {})) for end in ends}
    return made


def _node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def _with_widgets(info: dict, values: dict) -> dict:
    """Every widget of a node as it comes, but for these."""

    def take(name, kind, options):
        return values.get(name, first_value(kind, options))

    return {name: value for name, _, _, value in walk_widgets(info["input"], take)}


def run(queue, prompt: dict) -> Outcome:
    Keep.kept, Watch.calls = {}, 0
    shown = queue.run(prompt, (KEEP, REPORT))
    return Outcome(Keep.kept, Watch.calls, shown, {key: node["class_type"] for key, node in prompt.items()})
