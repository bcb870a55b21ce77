"""Kept attention outputs under every sampler of the host: all evaluations of a step attend, or none does."""

from __future__ import annotations

import pytest
from forecasting import equal, sampled
from reusing import by_step, counted, reuse
from test_forecast_samplers import rehearsal_of
from tiny import plain
from tiny.case import parts

from attention.core.reason import Reason
from attention.forecast.samplers import ONE, TABLE

CASE = plain()["Wan"]
STEPS = 9


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


@pytest.mark.parametrize("name", TABLE)
def test_every_sampler(name, pack, model, inference):
    import comfy.samplers

    if name not in comfy.samplers.SAMPLER_NAMES:
        pytest.skip("not in this host")
    cfg = 2.0 if name.endswith("cfg_pp") else 1.0
    exact, _ = sampled(pack, model, CASE, name, STEPS, cfg)
    out, report = sampled(pack, reuse(pack, model, 3), CASE, name, STEPS, cfg)
    assert all(part.isfinite().all() for part in parts(out))
    if isinstance(TABLE[name], Reason):
        assert counted(report)[0] == 0 and equal(out, exact)
        assert any(f"Nothing was kept: {name}: {TABLE[name]}." == note for note in report.notes), report.notes
        return
    assert not any("rehearsal" in note for note in report.notes) and not equal(out, exact)
    stands = 2 if TABLE[name] == ONE else 3
    expected = [2 * bool(call.step % stands) for call in rehearsal_of(pack, model, name).calls]
    assert counted(report) == (sum(expected), 2 * len(expected))
    if len(expected) == len(report.timeline):
        assert by_step(report) == expected
    assert any("every 2 steps with this sampler" in note for note in report.notes) == (stands == 2)
