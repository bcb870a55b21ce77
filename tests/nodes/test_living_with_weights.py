"""Our rules beside what changes weights: LoRA before and after, LoRA that a prompt brings along, merged models."""

from __future__ import annotations

import pytest
import torch

KEY = "diffusion_model.transformer_blocks.{}.attn1.to_v.weight"
BLOCKS, STEPS = 2, 4
OURS = {("self", "sdpa"): BLOCKS * STEPS, ("cross", "sdpa"): BLOCKS * STEPS}


def difference() -> dict:
    """What a LoRA of full rank adds to the values of both blocks, as ComfyUI's loader gives it."""
    random = torch.Generator().manual_seed(3)
    return {KEY.format(block): ("diff", (torch.randn(48, 48, generator=random),)) for block in range(BLOCKS)}


def with_lora(model):
    """Load LoRA's work: a clone with patches on its weights."""
    patched = model.clone()
    assert len(patched.add_patches(difference(), 1.0)) == BLOCKS
    return patched


def test_a_lora_before_or_after(lab, plain):
    want = lab.sample(with_lora(lab.model))
    assert lab.error(want, plain) > 1e-3, "else the next lines show nothing"
    for model in (lab.backend(with_lora(lab.model)), with_lora(lab.backend())):
        out = lab.sample(model)
        assert lab.error(out, want) <= 1e-5 and lab.calls_of(lab.report(out)) == OURS
    assert torch.equal(lab.sample(), plain)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_lora_that_a_prompt_brings(lab, plain, cfg):
    """Hooks swap weights between prompts, so both prompts are evaluated on their own: every call is counted."""
    import comfy.hooks

    group = comfy.hooks.HookGroup()
    hook = comfy.hooks.WeightHook(strength_model=1.0)
    hook.weights, hook.need_weight_init = difference(), False
    group.add(hook)
    original = lab.prompt
    lab.prompt = (comfy.hooks.set_hooks_for_conditioning(original[0], group), original[1])
    want = lab.sample(cfg=cfg)
    out = lab.sample(lab.backend(), cfg=cfg)
    assert lab.error(want, plain) > 1e-3 and lab.error(out, want) <= 1e-5
    times = 1 if cfg == 1.0 else 2
    assert lab.calls_of(lab.report(out)) == {key: times * calls for key, calls in OURS.items()}
    assert lab.hooks(lab.model) == 0
    lab.prompt = original
    assert torch.equal(lab.sample(), plain)


def test_a_merged_model(lab, plain):
    """Model Merge patches weights as a LoRA does: half of this model and half of its double."""
    merged = lab.backend().clone()
    merged.add_patches({KEY.format(0): (lab.model.model.diffusion_model.transformer_blocks[0].attn1.to_v.weight,)}, 1.0)
    out = lab.sample(merged)
    assert lab.error(out, plain) > 1e-3 and lab.calls_of(lab.report(out)) == OURS
