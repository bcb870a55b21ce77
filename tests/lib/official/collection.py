"""Which workflows of comfyui-workflow-templates-json make video here, by sampling: those of an API sample elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "comfyui_workflow_templates_json"
SAMPLERS = {"KSampler", "KSamplerAdvanced", "SamplerCustom", "SamplerCustomAdvanced"}
SAVERS = {"SaveVideo", "SaveWEBM", "SaveAnimatedWEBP"}


def folder() -> Path | None:
    """Where the package's workflows are; None without it."""
    found = importlib.util.find_spec(PACKAGE)
    return found and Path(found.submodule_search_locations[0]) / "templates"


def load(name: str) -> dict:
    return json.loads((folder() / f"{name}.json").read_text(encoding="utf-8"))


def nodes(workflow: dict) -> Iterator[dict]:
    """Every node as saved, those of subgraphs too."""
    yield from workflow["nodes"]
    for subgraph in workflow.get("definitions", {}).get("subgraphs", ()):
        yield from subgraph["nodes"]


@functools.cache
def names() -> tuple[str, ...]:
    """The local video workflows that the package's index lists."""
    if folder() is None:
        return ()
    index = json.loads((folder() / "index.json").read_text(encoding="utf-8"))
    listed = {entry["name"]: None for part in index if part["type"] != "3d" for entry in part["templates"]}
    return tuple(sorted(name for name in listed if not name.startswith("api_") and _makes_video(name)))


def _makes_video(name: str) -> bool:
    file = folder() / f"{name}.json"
    kinds = {node["type"] for node in nodes(load(name))} if file.exists() else set()
    return bool(kinds & SAMPLERS and kinds & SAVERS)
