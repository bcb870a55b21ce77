"""A pattern that takes turns, in a real ComfyUI: every step and every block has its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shaping import shaped
from tiny import plain, wan
from tiny.case import sample

from attention.patterns.spec import turns_of

STEPS = 4


def longer(case, frames: int = 9):
    """The case with so many latent frames."""
    shape = list(case.latent().shape)
    return replace(case, latent=lambda: torch.zeros(*shape[:2], frames, *shape[3:]))


# Video alone, and text in one sequence with it.
CASES = {"Wan": longer(wan.TEXT_ONLY[0]), "HunyuanVideo": longer(plain()["HunyuanVideo"])}


@pytest.mark.parametrize("name", CASES)
def test_steps_and_blocks_take_turns(name, pack, inference, monkeypatch):
    case, seen = CASES[name], []
    runner = pack.attention.sparse.runner
    planned = runner.engine_plan
    monkeypatch.setattr(runner, "engine_plan", lambda e, task, *a: seen.append(task.pattern) or planned(e, task, *a))
    model = shaped(pack, case.build(), "long video", choice={"time": 5.0}, engine="tiles").args[0]
    out = sample(model, case, steps=STEPS)
    report = pack.nodes.host.run_history.find(out)
    assert {used for step in report.timeline for role, used in step.calls if role == "self"} == {"long video (tiles)"}
    pattern = pack.attention.patterns.LongVideo(5)
    blocks = case.calls["self"]
    wanted = [turns_of(pattern, report.grid, block) for block in range(blocks)]
    turns = len(wanted[0])
    assert turns == 5 and len(seen) == STEPS * blocks
    # The first evaluation is number 1.
    assert [one.place for one in seen] == [
        wanted[block][step % turns].place for step in range(1, STEPS + 1) for block in range(blocks)
    ]
    assert (
        "turns of steps and blocks"
        in shaped(pack, model, "long video", choice={"time": 5.0}, latent={"samples": case.latent()}).args[2]
    )
