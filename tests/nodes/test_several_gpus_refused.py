"""One clip over several GPUs: errors, what is refused and why, and the node."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from gpus_here import WIDE, about_gpus, far, loud, on_gpus, sampled, stand_in, with_rules
from tiny import CASES, wan_animate2
from tiny.case import SLOT, sample

from attention.blocks import TemporalBlocks, TemporalConfig, weights
from attention.routing.rules import Rule

EXACT = 1e-5
SDPA = Rule("sdpa")


@pytest.fixture(autouse=True)
def devices(pack, inference, monkeypatch):
    stand_in(monkeypatch)


def test_an_error_on_one_ends_the_run_on_all_and_the_next_is_right(pack):
    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    made = on_gpus(pack, model, 3)
    second = made.get_additional_models_with_key("multigpu")[0].model.diffusion_model

    def fail(*_):
        raise error

    hook, error = second.blocks[1].register_forward_pre_hook(fail), KeyError("on the second GPU")
    try:
        with pytest.raises(KeyError, match="second GPU"):
            sample(made, case, steps=2)
        # Where memory is short the step runs on one.
        error = MemoryError("on the second GPU")
        out, report = sampled(pack, made, case)
        assert far(out, truth) < EXACT and "memory was missing (MemoryError)" in about_gpus(report)
    finally:
        hook.remove()
    out, report = sampled(pack, made, case)
    assert far(out, truth) < EXACT and "On 3 GPUs" in about_gpus(report)


def test_an_interrupt_ends_it_and_the_next_is_right(pack):
    import comfy.model_management as management

    case = WIDE["Wan"]
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case)
    made = on_gpus(pack, model, 2)
    with pytest.raises(management.InterruptProcessingException):
        sample(made, case, steps=3, callback=lambda *_: management.interrupt_current_processing())
    management.interrupt_current_processing(False)
    assert far(sampled(pack, made, case)[0], truth) < EXACT


def test_attention_that_another_node_takes_away_is_an_error(pack):
    case = WIDE["Wan"]
    made = on_gpus(pack, with_rules(pack, loud(case), SDPA), 2)
    block = made.model.diffusion_model.blocks[1]
    forward = block.self_attn.forward
    block.self_attn.forward = lambda x, *args, **kwargs: x
    try:
        with pytest.raises(RuntimeError, match="took the attention calls of a block away"):
            sample(made, case)
    finally:
        block.self_attn.forward = forward


def refused(pack, model, case, **more):
    truth, _ = sampled(pack, model, case, **more)
    out, report = sampled(pack, on_gpus(pack, model, 2), case, **more)
    assert far(out, truth) < EXACT
    return about_gpus(report)


def test_what_runs_on_one_gpu_says_why(pack):
    case = WIDE["Wan"]
    plain = with_rules(pack, loud(case), SDPA)
    above = plain.clone()
    previous = above.model_options["transformer_options"][SLOT]

    def override(func, *args, **kwargs):
        return previous(func, *args, **kwargs)

    above.model_options["transformer_options"][SLOT] = override
    # As a node of another pack that is placed behind ours.
    late = on_gpus(pack, plain, 2)
    late.model_options["transformer_options"][SLOT] = override
    out, report = sampled(pack, late, case)
    assert far(out, sampled(pack, plain, case)[0]) < EXACT
    assert "another node's attention stands in front" in about_gpus(report)
    patched = plain.clone()
    patched.set_model_patch(lambda args: args["x"], "attn1_patch")
    assert "another node's patches" in refused(pack, patched, case)


def test_blocks_that_no_hook_sees_are_not_shared_out(pack):
    """Wan-Animate-2: the host calls methods of its blocks, frame by frame."""
    case, node = wan_animate2.CASES[1], pack.nodes.several_gpus.VideoAttentionSeveralGPUs
    model = loud(case)
    widgets = {"gpus": 0, "split": "tokens", "shares": "even"}
    why = "model: its tokens cannot be shared out over several GPUs: ComfyUI calls its blocks in ways that no hook of"
    with pytest.raises(ValueError, match=why):
        node.execute(model, on_unsupported="error", **widgets)
    out = node.execute(model, on_unsupported="fall back", **widgets)
    assert out.args[0] is model and why in out.ui.as_dict()["text"][0]


@pytest.mark.parametrize("first", [True, False])
def test_trained_temporal_blocks_run_on_one(first, pack, tmp_path):
    """They see all tokens of a place, wherever their node stands."""
    case, grafts = WIDE["Wan"], pack.nodes.host.temporal_grafts
    plain = with_rules(pack, loud(case), SDPA)
    network = plain.model.diffusion_model
    blocks = TemporalBlocks(TemporalConfig("Wan", network.dim, 2, 8, 16, (0, 1)))
    for block in blocks.blocks.values():
        torch.nn.init.normal_(block.attention.heads.to_out.weight, std=0.5)
    file = tmp_path / "blocks.safetensors"
    weights.save(blocks, file)
    alone, _ = grafts.add_blocks(plain, file)
    truth, _ = sampled(pack, alone, case)
    made = on_gpus(pack, alone, 2) if first else grafts.add_blocks(on_gpus(pack, plain, 2), file)[0]
    out, report = sampled(pack, made, case)
    assert far(out, truth) < EXACT < far(sampled(pack, plain, case)[0], truth)
    assert about_gpus(report) == "On one of the GPUs in 2 evaluations: trained temporal blocks see all tokens."


def test_processes_that_may_forecast_otherwise_do_not_share(pack):
    """Each would decide by what it remembers itself; of several GPUs one decides for all."""
    host, plain = pack.nodes.host, with_rules(pack, loud(WIDE["Wan"]), SDPA)
    options = {"transformer_options": {**plain.model_options["transformer_options"], host.forecast_run.KEY: object()}}
    assert "forecast steps are on this model" in host.sharing.refusal([], options)
    assert host.sharing.refusal([], options, forecasts=True) is None


def test_where_memory_is_missing_again_and_again_nothing_is_shared_any_more(pack):
    """Each try costs a step's time: two of them are enough for a run."""
    case, tried = WIDE["Wan"], []
    model = with_rules(pack, loud(case), SDPA)
    truth, _ = sampled(pack, model, case, steps=6)
    made = on_gpus(pack, model, 2)
    second = made.get_additional_models_with_key("multigpu")[0].model.diffusion_model

    def fail(*_):
        tried.append(1)
        raise MemoryError("again")

    hook = second.blocks[1].register_forward_pre_hook(fail)
    try:
        out, report = sampled(pack, made, case, steps=6)
    finally:
        hook.remove()
    assert far(out, truth) < EXACT and len(tried) == 2
    assert "memory was missing (MemoryError)" in about_gpus(report)


def test_a_guider_with_a_cfg_for_each_step(pack):
    """Of another node: a list, which may be 1 in some steps alone."""
    guider = SimpleNamespace(model_options={}, conds={"positive": [], "negative": []}, cfg=[1.0, 3.0])
    assert pack.nodes.host.sharing.most_prompts(guider) == 2
    guider.cfg = 1.0
    assert pack.nodes.host.sharing.most_prompts(guider) == 1


def test_the_node(pack, monkeypatch):
    import comfy.model_management as management

    node = pack.nodes.several_gpus.VideoAttentionSeveralGPUs
    case = WIDE["Wan"]
    model = loud(case)

    def text(**more):
        widgets = {"gpus": 0, "split": "tokens", "shares": "even", "on_unsupported": "error", **more}
        out = node.execute(widgets.pop("model", model), **widgets)
        return out.args[0], out.ui.as_dict()["text"][0]

    made, said = text()
    assert said == "On 4 GPUs: cpu, cpu:0, cpu:1, cpu:2. Each holds the whole model."
    assert len(made.get_additional_models_with_key("multigpu")) == 3
    assert text(gpus=9)[1].endswith(" 9 were asked for.") and text(gpus=1)[0] is model
    unknown = next(c for c in CASES if c.variant == "Mochi 1" or "Mochi" in c.variant)
    with pytest.raises(ValueError, match="model: its tokens cannot be shared out"):
        text(model=loud(unknown))
    other = loud(case)
    other.cached_patcher_init = None
    with pytest.raises(ValueError, match="its loader cannot make a copy"):
        text(model=other)
    assert text(model=other, on_unsupported="fall back") == (
        other, "Off: model: its loader cannot make a copy for a second GPU. Load it with Load Diffusion Model or Load "
        "Checkpoint. The model is as it came.",
    )  # fmt: skip
    monkeypatch.setattr(management, "get_all_torch_devices", lambda exclude_current=False: [torch.device("cpu")])
    assert text() == (model, "Off: there is one GPU here. The model is as it came.")


def test_clear_takes_it_off(pack):
    """With the rules the sharing goes too; nobody is waited for."""
    case, rules = WIDE["Wan"], pack.nodes.host.model_rules
    plain = loud(case)
    truth, _ = sampled(pack, rules.count(plain), case)
    meeting = pack.nodes.host.several_machines.Meeting(1, 2, "127.0.0.1", 9, 0.1, "tokens")
    for made in (
        on_gpus(pack, with_rules(pack, plain, SDPA), 2),
        pack.nodes.host.several_machines.install(plain, meeting),
    ):
        cleared = rules.clear(made)
        out, report = sampled(pack, cleared, case)
        assert far(out, truth) < EXACT and report is None
        out, report = sampled(pack, rules.count(cleared), case)
        assert far(out, truth) < EXACT and not about_gpus(report)
