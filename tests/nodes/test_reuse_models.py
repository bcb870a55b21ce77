"""Attention outputs kept for some steps, on tiny models of every family: what is given is what was computed."""

from __future__ import annotations

import pytest
import torch
from forecasting import equal, far, sampled, twice
from reusing import by_step, counted, reuse
from tiny import CASES, plain
from tiny.case import parts

PLAIN = plain()


@pytest.fixture(scope="module")
def built(pack):
    known = {}
    return lambda case: known.setdefault(case.build, case.build())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_given_is_what_was_computed(case, pack, built, inference):
    model = built(case)
    sampler, answers = twice()
    _, report = sampled(pack, reuse(pack, model, role="all"), case, sampler, steps=2)
    given, attended = (sum(row.calls for row in report.rows if row.used.startswith(used)) for used in ("kept", "host"))
    # The model has no other input in the second step, so that each call's own output of the first is right.
    assert 0 < given == attended == counted(report)[0] and by_step(report) == [0, given]
    # Two evaluations of one step may differ in what was rounded, not in more.
    assert (answers[-1] - answers[-2]).norm() <= 1e-6 * answers[-2].norm()


@pytest.mark.parametrize("name", PLAIN)
def test_outputs_are_near_and_nothing_changes_without(name, pack, built, inference):
    case = PLAIN[name]
    model = built(case)
    exact, _ = sampled(pack, model, case)
    idle, report = sampled(pack, reuse(pack, model, every=1, role="all"), case)
    assert equal(idle, exact) and counted(report)[0] == 0
    near, report = sampled(pack, reuse(pack, model, role="all"), case, steps=8)
    given, could = counted(report)
    steps = by_step(report)
    assert 0 < given == could // 2 and steps[0::2] == [0] * 4 and all(steps[1::2])
    assert not equal(near, exact) and far(near, exact) < 0.2 and all(part.isfinite().all() for part in parts(near))
    # The next run begins anew, and the model as it came is as it was.
    assert equal(sampled(pack, reuse(pack, model, role="all"), case)[0], near)
    assert equal(sampled(pack, model, case)[0], exact)


@pytest.mark.parametrize("name", ["Wan", "LTX-2", "MiniMax-H3"])
def test_prompts_are_apart_however_the_host_puts_them_together(name, pack, built, inference, monkeypatch):
    case = PLAIN[name]
    model = built(case)
    patched = reuse(pack, model, 3, role="all")
    together, report = sampled(pack, patched, case, cfg=4.0)
    monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: float("inf"))
    apart, again = sampled(pack, patched, case, cfg=4.0)
    assert counted(again)[0] == counted(again)[1] * 5 / 8 and counted(report)[0] == counted(report)[1] * 5 / 8
    assert far(apart, together) < 1e-4


def test_the_sound_has_outputs_of_its_own(pack, built, inference):
    case = PLAIN["LTX-2"]
    video, audio = (
        parts(sampled(pack, reuse(pack, built(case), role=role), case)[0]) for role in ("self", "audio self")
    )
    exact = parts(sampled(pack, built(case), case)[0])
    assert not torch.equal(video[0], exact[0]) and not torch.equal(audio[1], exact[1])
