"""Plans of patterns in a real ComfyUI: they go when the model goes, and its interrupt stops one in the making."""

from __future__ import annotations

import pytest
from shaping import shaped


@pytest.fixture
def host(pack):
    import comfy.model_management

    return comfy.model_management


def planned(pack) -> int:
    runner, layout = pack.attention.sparse.runner, pack.attention.sparse.tile_layout.layout
    return sum(one.cache_info().currsize for one in (runner.plan_of_all, runner.plan_of_part, layout))


def test_plans_go_with_the_model(lab, pack, host):
    pack.attention.sparse.runner.forget_engine_plans()
    model = shaped(pack, shaped(pack, lab.model, "spatial").args[0], "temporal", combine="union").args[0]
    out = lab.sample(model)
    assert planned(pack) >= 2
    host.unload_all_models()
    assert planned(pack) == 0
    assert lab.error(lab.sample(model), out) < 1e-6, "planned anew"
    model.detach()
    assert planned(pack) == 0


def test_a_cleared_model_frees_nothing(lab, pack):
    model = shaped(pack, lab.model, "spatial").args[0]
    lab.sample(model)
    assert planned(pack)
    cleared = pack.nodes.host.model_rules.clear(model)
    cleared = cleared[0] if isinstance(cleared, tuple) else cleared
    cleared.detach()
    assert planned(pack)


def test_the_hosts_interrupt_stops_a_plan(lab, pack, host):
    pack.attention.sparse.runner.forget_engine_plans()
    model = shaped(pack, shaped(pack, lab.model, "spatial").args[0], "temporal", combine="union").args[0]
    host.interrupt_current_processing(True)
    with pytest.raises(host.InterruptProcessingException):
        pack.attention.core.interruption.check_interrupt()
    host.interrupt_current_processing(False)
    pack.attention.core.interruption.check_interrupt()

    real, asked = pack.nodes.host.interruption.check, []

    def interrupted():
        if not asked:
            host.interrupt_current_processing(True)
        asked.append(None)
        real()

    pack.attention.core.interruption.set_interrupt_check(interrupted)
    try:
        with pytest.raises(host.InterruptProcessingException):
            lab.sample(model)
    finally:
        pack.attention.core.interruption.set_interrupt_check(real)
        host.interrupt_current_processing(False)
    assert len(asked) == 1
    assert lab.counted(model)["self", "union (tiles)"] == 8


def test_an_older_hosts_interrupt_is_left_to_the_host(pack, monkeypatch, host):
    class Older(Exception):
        pass

    monkeypatch.setattr(host, "InterruptProcessingException", Older)
    pack.nodes.host.interruption.check()
    host.interrupt_current_processing(True)
    try:
        with pytest.raises(RuntimeError, match="interrupted"):
            pack.nodes.host.interruption.check()
        assert host.processing_interrupted(), "the host still has to see it"
    finally:
        host.interrupt_current_processing(False)
