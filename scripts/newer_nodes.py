"""Writes scripts/newer_nodes.json: definitions of ComfyUI's nodes that workflows use and CORE_VERSION does not have.

    python scripts/newer_nodes.py PATH

PATH: of a ComfyUI that has them; run it with the Python of that one. write_workflows.py reads the file, so that it runs
on the version that the workflows are written for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import host

FILE = Path(__file__).with_name("newer_nodes.json")
# What a definition holds that a workflow depends on.
KEPT = ("input", "input_order", "output", "output_is_list", "output_name", "name", "output_node")


def read() -> dict:
    """ComfyUI's version -> node -> its definition."""
    return json.loads(FILE.read_text())


def known(info: dict) -> dict:
    """What a server tells of its nodes, and beside it what newer ones would."""
    newer = {name: node for nodes in read().values() for name, node in nodes.items()}
    return newer | info


def needed_by(workflow: dict) -> str | None:
    """The ComfyUI that a workflow's nodes need; None where CORE_VERSION has all of them."""
    kinds = {node["type"] for node in workflow["nodes"]}
    return next((version for version, nodes in read().items() if kinds & nodes.keys()), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="folder of a ComfyUI that has the nodes")
    options = parser.parse_args()
    import client

    with tempfile.TemporaryDirectory() as base, host.serve(options.path, Path(base)) as address:
        server = client.Client(address)
        info, version = server.object_info(), server.stats()["system"]["comfyui_version"]
    names = [name for nodes in read().values() for name in nodes]
    if lost := [name for name in names if name not in info]:
        raise host.SetUpError(f"ComfyUI {version} does not have {', '.join(lost)}.")
    nodes = {name: {key: info[name][key] for key in KEPT if key in info[name]} for name in sorted(names)}
    FILE.write_text(json.dumps({version: nodes}, indent=1) + "\n")
    host.say(f"{FILE.name}: {len(nodes)} nodes of ComfyUI {version}")
    return 0


if __name__ == "__main__":
    host.main(main)
