"""ComfyUI's estimate of a step's memory where the tokens are shared out: each GPU's part, or all where one may evaluate
alone."""

from __future__ import annotations

import platform
import threading

import pytest
import torch
from gpus_here import WIDE, loud, on_gpus, peaks_of_ranks, stand_in, with_rules
from tiny.case import SLOT, sample

from attention.parallel import group
from attention.reuse import ReuseSettings
from attention.routing.rules import Rule

SDPA, HERE = Rule("sdpa"), "127.0.0.1"


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


@pytest.fixture
def estimated(monkeypatch):
    """(MODEL, case, cfg) -> the bytes that ComfyUI wants free before it loads the MODEL."""
    import comfy.model_management as management

    class Loading(Exception):
        pass

    def loading(models, memory_required=0, **more):
        raise Loading(memory_required)

    def run(model, case, **more):
        monkeypatch.setattr(management, "load_models_gpu", loading)
        with pytest.raises(Loading) as told:
            sample(model, case, **more)
        monkeypatch.undo()
        stand_in(monkeypatch)
        return told.value.args[0]

    return run


def test_each_gpu_needs_its_part(pack, estimated):
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    alone = estimated(model, case)
    for count in (2, 4):
        part = estimated(on_gpus(pack, model, count), case) / alone
        # The latent is 18 wide, and shrinks by whole columns.
        assert part == pytest.approx(pack.nodes.host.memory_estimate.part_of(count), abs=1 / 18) and part < 0.85
    # The model as it came.
    assert estimated(model, case) == alone


def test_prompts_on_gpus_of_their_own_need_all(pack, estimated):
    case, split = WIDE["Wan"], "prompts, then tokens"
    model = with_rules(pack, loud(case), SDPA)
    alone = estimated(model, case)
    assert estimated(on_gpus(pack, model, 2, split), case, cfg=3.0) == alone
    two, four = estimated(on_gpus(pack, model, 2), case), estimated(on_gpus(pack, model, 4), case)
    assert four < two < alone
    assert estimated(on_gpus(pack, model, 2, split), case, cfg=1.0) == two
    assert estimated(on_gpus(pack, model, 2), case, cfg=3.0) == two
    # Two for each prompt; one prompt at cfg 1 has all four.
    assert estimated(on_gpus(pack, model, 4, split), case, cfg=3.0) == two
    assert estimated(on_gpus(pack, model, 4, split), case, cfg=1.0) == four


def test_where_one_may_evaluate_alone_it_needs_all(pack, estimated):
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    alone = estimated(model, case)
    late = on_gpus(pack, model, 2)
    late.model_options["transformer_options"][SLOT] = lambda func, *args, **kwargs: func(*args, **kwargs)
    patched = model.clone()
    patched.set_model_patch(lambda args: args["x"], "attn1_patch")
    for made in (late, on_gpus(pack, patched, 2), on_gpus(pack, model, 2, shares="by measured speed")):
        assert estimated(made, case) == alone
    # What this keeps is in the estimate too.
    forecasting = pack.nodes.host.forecast.install(model, pack.nodes.host.forecast.ForecastSettings())
    assert estimated(on_gpus(pack, forecasting, 2), case) == estimated(forecasting, case) > alone


def test_outputs_that_are_kept_are_counted_whole(pack, estimated):
    """An evaluation that cannot be shared out keeps all of them on one."""
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    reusing = with_rules(pack, model, Rule(reuse=ReuseSettings()))
    kept = estimated(reusing, case) - estimated(model, case)
    assert estimated(on_gpus(pack, reusing, 2), case) - estimated(on_gpus(pack, model, 2), case) == kept > 0


def test_what_a_rank_holds_is_what_is_said(pack, monkeypatch):
    """Measured: the tensors that live at the same time in one of two threads, beside those of one thread for all."""
    case = WIDE["Wan"]
    peaks, _ = peaks_of_ranks(pack, case, with_rules(pack, loud(case), SDPA), 2, monkeypatch)
    said = pack.nodes.host.memory_estimate.part_of(2)
    assert len(peaks) == 4 and all(said - 0.15 < peak < said + 0.05 for peak in peaks)


@pytest.fixture
def among(pack, estimated):
    """(MODEL, case, split, of) -> what ComfyUI wants free on number 0 of so many that meet; the others only come."""
    import host

    machines = pack.nodes.host.several_machines

    def run(model, case, split, of=2, **more):
        port, seen = host.free_port(None), threading.Event()

        def come(number):
            store = group.meet(HERE, port, number, of, 60.0)
            peers = group.GroupPeers.of(store, HERE, number, of, 60.0, torch.device("cpu"))
            seen.wait(60)
            peers.leave()

        others = [threading.Thread(target=come, args=(number,), name=f"machine {number}") for number in range(1, of)]
        for other in others:
            other.start()
        try:
            made = machines.install(model, machines.Meeting(0, of, HERE, port, 60.0, split))
            return estimated(made, case, **more)
        finally:
            seen.set()
            for other in others:
                other.join()

    return run


def test_each_of_several_comfyuis_needs_its_part(pack, estimated, among, monkeypatch):
    case, around = WIDE["Wan"], "tokens, keys around machines"
    model = with_rules(pack, loud(case), SDPA)
    alone = estimated(model, case)
    two, four = (estimated(on_gpus(pack, model, count), case) for count in (2, 4))
    assert four < two < alone
    assert among(model, case, "tokens") == among(model, case, "tokens", cfg=3.0) == two
    # A prompt each, all of its tokens. At cfg 1 there is one; and two of four would have none.
    assert among(model, case, "prompts, then tokens", cfg=3.0) == alone
    assert among(model, case, "prompts, then tokens", cfg=1.0) == two
    assert among(model, case, "prompts, then tokens", of=4, cfg=3.0) == four
    # Only those of one machine trade heads.
    assert among(model, case, around) == two
    monkeypatch.setattr(platform, "node", lambda: threading.current_thread().name)
    assert among(model, case, around) == alone
