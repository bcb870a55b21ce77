"""ComfyUI's estimate of a step's memory where the tokens are shared out: each GPU's part, or all where one may evaluate
alone."""

from __future__ import annotations

import pytest
from gpus_here import WIDE, loud, on_gpus, peaks_of_ranks, stand_in, with_rules
from tiny.case import SLOT, sample

from attention.reuse import ReuseSettings
from attention.routing.rules import Rule

SDPA = Rule("sdpa")


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
