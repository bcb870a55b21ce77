"""ComfyUI's own local video workflows (the package comfyui-workflow-templates-json), with our nodes where a user would
put them: Backend and a Pattern that sees all behind each model, a Report behind each sampler.

Each workflow is expanded, shrunk and furnished with tiny models (tests/lib/official), and runs twice in ComfyUI's
executor. The latents of all samplers must agree, and the reports must have as many attention calls as an override
counted: none for SeedVR2 and Causal Forcing, whose attention no override reaches. What cannot run here is skipped with
the reason. All of them take about two minutes.
"""

from __future__ import annotations

import asyncio
import json

import prompts
import pytest
from official import collection, expand, run, small, stand_ins

SAME = 1e-5
# In ComfyUI 0.30, which lacks the nodes of the newest workflows.
LEAST = 66


def _told(kind) -> dict:
    """What the server tells of a node at /object_info, as far as it is read here."""
    made = kind.GET_NODE_INFO_V1() if hasattr(kind, "GET_NODE_INFO_V1") else {"input": kind.INPUT_TYPES()}
    return json.loads(json.dumps(made, default=str))


@pytest.fixture(scope="module")
def info(pack):
    """All nodes that ComfyUI comes with, and ours, for the tests of this module."""
    import nodes

    before = dict(nodes.NODE_CLASS_MAPPINGS)
    asyncio.run(nodes.init_builtin_extra_nodes())
    ours = {node.GET_SCHEMA().node_id: node for topic in pack.nodes.TOPICS for node in topic.NODES}
    nodes.NODE_CLASS_MAPPINGS.update(ours | stand_ins.NODES)
    yield {name: _told(kind) for name, kind in nodes.NODE_CLASS_MAPPINGS.items()}
    nodes.NODE_CLASS_MAPPINGS.clear()
    nodes.NODE_CLASS_MAPPINGS.update(before)


@pytest.fixture
def queue(pack, info, monkeypatch):
    return prompts.Queue(pack, None, monkeypatch)


def _small(name: str, info: dict) -> dict:
    return small.small(expand.expand(collection.load(name), info))


@pytest.mark.parametrize("name", collection.names())
def test_a_workflow_of_comfyui_gives_the_same_and_is_counted_truly(name, queue, info):
    prompt = _small(name, info)
    if lacking := small.lacking(prompt, info):
        pytest.skip(lacking)
    without = run.run(queue, run.plain(prompt))
    patched = run.run(queue, run.ours(prompt, info))
    assert patched.apart(without) < SAME
    assert patched.reported == without.calls


def test_most_of_comfyuis_workflows_run_here(info):
    """Otherwise the test above could skip all."""
    assert collection.folder() is not None, "pip install -r requirements-dev.txt"
    running = [name for name in collection.names() if small.lacking(_small(name, info), info) is None]
    assert len(running) >= LEAST


@pytest.mark.parametrize("name", ["text_to_video_wan", "video_ltx2_3_t2v"])
def test_a_pattern_that_sees_a_part_is_told_apart(name, queue, info):
    """At the same place in the same workflow: the comparison above can fail."""
    prompt = _small(name, info)
    without = run.run(queue, run.plain(prompt))
    patched = run.run(queue, run.ours(prompt, info, pattern="spatial"))
    assert patched.apart(without) > SAME
    assert patched.reported == without.calls
