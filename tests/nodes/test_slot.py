"""Whose attention a run had, told truly: overrides that replace ours or stand on top, samplers that set their own,
modules and models that other packs run by their own code. Others are stood in for, see newer_host.py."""

from __future__ import annotations

import functools
import logging

import pytest
import torch
from newer_host import (
    attention_exact,
    block_attention,
    forward_of_block,
    sampler_of_bleh,
    set_model_optimized_attention,
    sparse_attention,
)
from tiny import plain as plain_cases
from tiny.case import parts, prompt, sample

PLAIN = plain_cases()
BLOCKS, STEPS = 2, 4
EACH = BLOCKS * STEPS
SPARSE = "ComfyUI's Model Sparse Attention"


@pytest.fixture
def warned(caplog):
    """What the log was warned of by us."""
    caplog.set_level(logging.WARNING)
    return lambda: [r.getMessage() for r in caplog.records if "Video Attention" in r.getMessage()]


def video_span(model, function, folder: str):
    """A function of a pack in the slot of a clone. folder: below custom_nodes."""
    function.__module__ = f"/ComfyUI/custom_nodes/{folder}.nodes"
    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = function
    return patched


def run_with(lab, model, sampler, steps=STEPS):
    """The latent of this SAMPLER."""
    import comfy.sample
    import comfy.samplers

    latent, (positive, negative) = torch.zeros(1, 128, 2, 3, 4), lab.prompt
    noise = comfy.sample.prepare_noise(latent, 1)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    return comfy.sample.sample_custom(
        model, noise, 1.0, sampler, sigmas, positive, negative, latent, disable_pbar=True, seed=1
    )


# --- the slot --------------------------------------------------------------------------------------------------------


def test_the_host_s_own_method_after_ours_replaces_it_and_is_told(lab, plain, warned):
    model = lab.backend()
    set_model_optimized_attention(model, attention_exact)
    out = lab.sample(model)
    report = lab.report(out)
    assert lab.error(out, plain) <= 1e-5 and report.ruled == 0 and report.calls == 2 * EACH
    told = (
        "attention calls were taken by ComfyUI's Model Attention Backend, which replaces what it finds: place Video "
        "Attention's nodes behind it, and it runs what no rule covers."
    )
    assert f"All 16 {told}" in report.notes
    assert warned() == [f"Video Attention, LTXVModel: All 4 {told}"], "once, after the first step"


def test_the_host_s_own_method_before_ours_keeps_our_rules(lab, plain):
    """And runs what no rule covers, also in containers."""
    seen, model = [], lab.model.clone()

    def counted(*args, **kwargs):
        seen.append(1)
        return attention_exact(*args, **kwargs)

    set_model_optimized_attention(model, counted)
    out = lab.sample(lab.backend(model, role="self"))
    report = lab.report(out)
    assert lab.error(out, plain) <= 1e-5 and len(seen) == EACH and report.ruled == EACH
    assert lab.calls_of(report)["cross", "ComfyUI's Model Attention Backend"] == EACH and not report.notes


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("name", ["LTXV", "LTX-2", "Wan", "MiniMax-H3"])
def test_model_sparse_attention_and_ours(pack, inference, name, ours_first):
    """Whoever comes first, it is on top; every call is counted once, and by whom it was answered."""
    case = PLAIN[name]
    model, rule = case.build(), pack.attention.routing.rules.Rule("sdpa")
    truth = sample(model, case, steps=2)
    if ours_first:
        model, took = sparse_attention(pack.nodes.host.model_rules.add_rule(model, rule))
    else:
        model, took = sparse_attention(model)
        model = pack.nodes.host.model_rules.add_rule(model, rule)
    out = sample(model, case, steps=2)
    report = pack.nodes.host.run_history.find(out)
    for ours, theirs in zip(parts(out), parts(truth), strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    calls = {role: 2 * count for role, count in case.calls.items()}
    assert report.calls == sum(calls.values())
    assert sum(row.calls for row in report.rows if row.used == SPARSE) == len(took) > 0
    assert report.ruled == report.calls - len(took)
    (note,) = (note for note in report.notes if SPARSE in note)
    assert note.endswith("which stands on top of Video Attention's nodes.")
    if name in ("LTXV", "Wan"):
        assert note.startswith(f"The {calls['self']} self-attention calls were taken by {SPARSE}")


@pytest.mark.parametrize(
    ("steps", "when"), [((1, 2, 3), " in steps 1-3 of 4"), ((2,), " in step 2 of 4"), ((1, 2, 3, 4), "")]
)
def test_a_sampler_that_sets_its_own_override_for_some_steps(lab, warned, steps, when):
    sampler, took = sampler_of_bleh(steps)
    report = lab.report(run_with(lab, lab.backend(), sampler))
    assert report.ruled == 2 * BLOCKS * (STEPS - len(steps)) and report.calls == 2 * EACH
    assert len(took) == 2 * BLOCKS * len(steps)
    (note,) = report.notes
    assert f"taken by ComfyUI-bleh{when}, whose sampler sets its own attention for each model call" in note
    assert len(warned()) == 1 and "ComfyUI-bleh" in warned()[0]
    assert not any("torch.compile" in text for text in (*report.notes, *warned()))


def test_a_sampler_that_hands_on_what_it_found_takes_nothing(lab, warned):
    sampler, took = sampler_of_bleh((1, 2), delegates=True)
    report = lab.report(run_with(lab, lab.backend(), sampler))
    assert report.ruled == report.calls == 2 * EACH and took and not report.notes and not warned()


def test_a_model_of_no_known_family_tells_the_steps(lab, pack, monkeypatch):
    """Its single calls cannot be told, only that none came."""
    monkeypatch.setattr(pack.nodes.host.model_family, "find", lambda name: None)
    sampler, _ = sampler_of_bleh((1, 3))
    report = lab.report(run_with(lab, lab.backend(role="self"), sampler))
    assert any(note.startswith("Attention was taken by ComfyUI-bleh in steps 1,3 of 4, ") for note in report.notes)


# --- past the slot ---------------------------------------------------------------------------------------------------


def test_modules_that_a_pack_runs_by_its_own_code(lab, plain, warned):
    """As KJNodes' memory efficient attentions: an object patch that calls a kernel, no override."""
    model = lab.backend()
    for index in range(BLOCKS):
        attn = model.model.diffusion_model.transformer_blocks[index].attn1

        def forward(self, x, context=None, mask=None, pe=None, k_pe=None, transformer_options=None):
            bare = {key: value for key, value in transformer_options.items() if key != "optimized_attention_override"}
            return type(self).forward(self, x, context, mask, pe, k_pe, bare)

        forward.__module__ = "/ComfyUI/custom_nodes/ComfyUI-KJNodes.nodes.ltxv_nodes"
        model.add_object_patch(f"diffusion_model.transformer_blocks.{index}.attn1.forward", forward.__get__(attn))
    out = lab.sample(model)
    report = lab.report(out)
    assert lab.error(out, plain) <= 1e-5
    assert lab.calls_of(report) == {("cross", "sdpa"): EACH, ("self", "ComfyUI-KJNodes"): EACH}
    assert report.notes == (
        "The 8 self-attention calls were taken by ComfyUI-KJNodes in blocks 0-1, which runs these modules' attention "
        "itself, past every override.",
    )
    assert len(warned()) == 1 and all(row.blocks == {0, 1} for row in report.rows)


def cached_forward(self, x, *args, transformer_options=None, **kwargs):
    """As TeaCache's: the blocks are called without options."""
    kept = dict(transformer_options)
    kept.pop("optimized_attention_override")
    return type(self).forward(self, x, *args, transformer_options=kept, **kwargs)


def test_a_model_whose_forward_passes_no_options(lab, plain, warned):
    """The true reason: no word of torch.compile, and whose code it is."""
    cached_forward.__module__ = "/ComfyUI/custom_nodes/ComfyUI-TeaCache.nodes"

    def wrapper(apply_model, args):
        net = lab.model.model.diffusion_model
        net.forward = functools.partial(cached_forward, net)
        try:
            return apply_model(args["input"], args["timestep"], **args["c"])
        finally:
            del net.forward

    model = lab.backend()
    model.set_model_unet_function_wrapper(wrapper)
    out = lab.sample(model)
    report = lab.report(out)
    assert lab.error(out, plain) <= 1e-5 and report.ruled == 0 and report.calls == 2 * EACH
    assert report.notes == (
        "All 16 attention calls were taken by ComfyUI-TeaCache in blocks 0-1, which calls these modules without the "
        "options that carry an override.",
    )
    assert len(warned()) == 1


def test_a_class_of_another_pack_whose_attention_asks_nobody(lab, monkeypatch):
    """As RES4LYF's ReWanPatcher: the model's class itself is another one, of no family we know."""
    net = lab.model.model.diffusion_model

    class ReLTXVModel(type(net)):
        def forward(self, x, *args, transformer_options=None, **kwargs):
            kept = {key: each for key, each in transformer_options.items() if key != "optimized_attention_override"}
            return super().forward(x, *args, transformer_options=kept, **kwargs)

    ReLTXVModel.__module__ = "/ComfyUI/custom_nodes/RES4LYF.wan.model"
    monkeypatch.setattr(net, "__class__", ReLTXVModel)
    report = lab.report(lab.sample(lab.backend(), seed=9301))
    assert report.calls == 0
    assert report.notes[0] == (
        "No attention call came through: ReLTXVModel as RES4LYF changed it runs attention without the options that "
        "carry an override."
    )


@pytest.mark.parametrize("blocks", ["", "1"])
def test_a_pattern_that_another_pack_keeps_the_calls_from(pack, lab, blocks):
    """A node of ours on both sides of an override that passes nothing on: the headline names the one who took them."""
    rules = pack.attention.routing.rules
    shape = rules.Shape(pack.attention.patterns.Spatial())
    pattern = rules.Rule(role="self", blocks=rules.parse_blocks(blocks), shape=shape)
    between = video_span(
        pack.nodes.host.model_rules.add_rule(lab.model, pattern),
        lambda func, *args, **kwargs: func(*args, **kwargs),
        "OptOut",
    )
    report = lab.report(lab.sample(lab.backend(between, role="cross")))
    covered = STEPS if blocks else EACH
    assert (report.coverage.covered, report.coverage.shaped) == (covered, 0)
    told = f"0 of {covered} self-attention calls (taken by OptOut)."
    assert pack.attention.inspect.report_text.headline(report).count(told) == 1


def test_a_sampler_that_is_known_to_pass_no_options(pack, inference):
    """ComfyUI's ar_video on a causal Wan: what is known of the family stands before what was seen."""
    import comfy.sample
    import comfy.samplers

    sampler = comfy.samplers.ksampler("ar_video", {"num_frame_per_block": 1})
    case = PLAIN["Wan causal"]
    model = pack.nodes.host.model_rules.add_rule(case.build(), pack.attention.routing.rules.Rule("sdpa"))
    latent, said = case.latent(), prompt(case, 1)
    noise, sigmas = comfy.sample.prepare_noise(latent, 1), torch.tensor([1.0, 0.5, 0.0])
    out = comfy.sample.sample_custom(model, noise, 1.0, sampler, sigmas, said, said, latent, disable_pbar=True, seed=1)
    report = pack.nodes.host.run_history.find(out)
    assert report.ruled == 0 and {row.used for row in report.rows} == {"the model's own code"}
    known, seen = report.notes
    assert known.startswith("Known to be out of reach: all calls under the sampler ar_video")
    assert "without the options that carry an override" in seen


def test_nothing_is_said_where_nothing_is_taken(lab, warned):
    report = lab.report(lab.sample(lab.backend(role="cross")))
    assert not report.notes and not warned()


@pytest.mark.parametrize("blocks", [(1,), (0, 1)])
def test_blocks_whose_attention_is_swapped_by_a_block_patch(pack, inference, monkeypatch, warned, blocks):
    """As Model Sparse Attention on MiniMax-H3: the module is not even called."""
    from comfy.ldm.minimax.model import DiTBlock

    monkeypatch.setattr(DiTBlock, "forward", forward_of_block)
    case = PLAIN["MiniMax-H3"]
    truth = sample(case.build(), case, steps=2)
    ours = pack.nodes.host.model_rules.add_rule(case.build(), pack.attention.routing.rules.Rule("sdpa"))
    model, took = block_attention(ours, blocks)
    out = sample(model, case, steps=2)
    report = pack.nodes.host.run_history.find(out)
    for mine, theirs in zip(parts(out), parts(truth), strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm()
    assert len(took) == 2 * len(blocks) and report.calls == 2 * BLOCKS and report.ruled == report.calls - len(took)
    assert next(row.blocks for row in report.rows if row.used == SPARSE) == set(blocks)
    (note,) = report.notes
    assert f"taken by {SPARSE} in blocks {'0-1' if len(blocks) > 1 else '1'}, which runs" in note and warned()
