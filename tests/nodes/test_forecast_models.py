"""Forecasts on tiny models of every family: what stands still is forecast as it is, each prompt by itself."""

from __future__ import annotations

import pytest
import torch
from forecasting import equal, far, forecast, made_steps, sampled, twice
from tiny import CASES, plain
from tiny.case import parts

from attention.core.reason import Reason
from attention.families import TABLE, find

PLAIN = plain()
HEADS = ("Wan", "LTXV", "LTX-2", "HunyuanVideo", "MiniMax-H3")


@pytest.fixture(scope="module")
def built(pack):
    known = {}
    return lambda case: known.setdefault(case.build, case.build())


def head_of(model):
    row = find(type(model.model.diffusion_model).__name__)
    return Reason("") if row is None else row.head


def has_head(case) -> bool:
    return any(case.variant in [v.name for v in row.variants] for row in TABLE if not isinstance(row.head, Reason))


@pytest.mark.parametrize("case", [*filter(has_head, CASES), *(c for c in PLAIN.values() if not has_head(c))], ids=str)
def test_a_forecast_of_what_was_computed_is_what_was_computed(case, pack, built, inference):
    model = built(case)
    sampler, answers = twice()
    patched = forecast(pack, model, degree=0, warm_up=1, last=0)
    _, report = sampled(pack, patched, case, sampler, steps=2)
    answers = answers[-2:]
    assert (report.forecasts, report.evaluations) == (1, 2)
    if isinstance(head_of(model), Reason):
        assert (answers[0] - answers[1]).norm() <= 1e-5 * answers[0].norm()
    else:
        assert torch.equal(answers[0], answers[1])
    # Nothing of it stays on the model, whose blocks are all there.
    left = [name for name in vars(model.model.diffusion_model) if name.startswith("_video_attention")]
    assert not left


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_named_and_the_blocks_do_not_run(name, pack, built, inference):
    case = PLAIN[name]
    model = built(case)
    head, net = head_of(model), model.model.diffusion_model
    blocks = [block for each in head.lists for block in getattr(net, each)]
    assert blocks
    calls = []
    handles = [block.register_forward_pre_hook(lambda *_: calls.append(1)) for block in blocks]
    try:
        _, report = sampled(pack, forecast(pack, model, in_a_row=2), case, steps=8)
    finally:
        for handle in handles:
            handle.remove()
    assert made_steps(report) == [3, 4, 6, 7] and len(calls) == 4 * len(blocks)
    assert any("what goes into the model's last layer" in note for note in report.notes)
    assert [block for each in head.lists for block in getattr(net, each)] == blocks


@pytest.mark.parametrize("name", PLAIN)
def test_forecasts_are_near_and_nothing_changes_without_them(name, pack, built, inference):
    case = PLAIN[name]
    model = built(case)
    exact, _ = sampled(pack, model, case)
    idle, report = sampled(pack, forecast(pack, model, in_a_row=0), case)
    assert equal(idle, exact) and not report.forecasts
    near, report = sampled(pack, forecast(pack, model), case)
    assert made_steps(report) == [3, 5, 7] and not equal(near, exact)
    assert far(near, exact) < 0.05 and all(part.isfinite().all() for part in parts(near))
    # The next run begins anew, and the model as it came is as it was.
    assert equal(sampled(pack, forecast(pack, model), case)[0], near) and equal(sampled(pack, model, case)[0], exact)


@pytest.mark.parametrize("name", [*HEADS, "Cosmos-Predict2"])
def test_prompts_are_apart_however_the_host_puts_them_together(name, pack, built, inference, monkeypatch):
    case = next((c for key, c in PLAIN.items() if key == name), PLAIN["Wan"])
    model = built(case)
    patched = forecast(pack, model, in_a_row=2)
    together, report = sampled(pack, patched, case, cfg=4.0)
    monkeypatch.setattr(model.model, "memory_required", lambda *args, **kwargs: float("inf"))
    apart, again = sampled(pack, patched, case, cfg=4.0)
    assert made_steps(report) == made_steps(again) == [3, 4, 6, 7]
    assert far(apart, together) < 1e-4


def test_sound_has_an_error_of_its_own(pack, built, inference):
    case = PLAIN["LTX-2"]
    _, report = sampled(pack, forecast(pack, built(case), max_error=1e-9), case)
    errors = [one.estimated_error for one in report.timeline if one.estimated_error is not None]
    assert errors and not report.forecasts and any("stayed above the bound" in note for note in report.notes)
