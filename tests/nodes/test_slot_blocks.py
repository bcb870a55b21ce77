"""Calls that no module announces: a pack's block makes them itself, or a second model does."""

from __future__ import annotations

import functools

import pytest
import torch
from tiny import CASES
from tiny import plain as plain_cases
from tiny.case import parts, prompt, sample
from widget_defaults import defaults

PLAIN = plain_cases()


def tuned(model, names=("attn1",)):
    """As KJNodes' LTX2AttentionTunerPatch: the block's forward makes these modules' calls itself."""

    def inlined(attn, *args, **kwargs):
        return type(attn).forward(attn, *args, **kwargs)

    patched = model.clone()
    for index, block in enumerate(patched.model.diffusion_model.transformer_blocks):

        def forward(self, *args, **kwargs):
            kept = {name: getattr(self, name) for name in names}
            for name, attn in kept.items():
                del self._modules[name]
                object.__setattr__(self, name, functools.partial(inlined, attn))
            try:
                return type(self).forward(self, *args, **kwargs)
            finally:
                for name, attn in kept.items():
                    object.__delattr__(self, name)
                    self._modules[name] = attn

        forward.__module__ = "/ComfyUI/custom_nodes/ComfyUI-KJNodes.nodes.ltxv_nodes"
        patched.add_object_patch(f"diffusion_model.transformer_blocks.{index}.forward", forward.__get__(block))

    return patched


INLINED = (("attn1",), ("attn2",), ("attn1", "attn2"), ("audio_attn1", "video_to_audio_attn"), ("audio_to_video_attn",))


@pytest.mark.parametrize("names", INLINED, ids=", ".join)
@pytest.mark.parametrize("rule", [{}, {"blocks": ((1, 1),)}, {"role": "self", "blocks": ((0, 0),)}])
def test_a_block_that_makes_its_calls_itself_is_known(pack, inference, names, rule):
    """By the hook on the block, and what is left of its modules: role, block and count as without that pack."""
    case = PLAIN["LTX-2"]
    rows = []
    for change in (lambda model: model, lambda model: tuned(model, names)):
        model = change(
            pack.nodes.host.model_rules.add_rule(case.build(), pack.attention.routing.rules.Rule("reference", **rule))
        )
        report = pack.nodes.host.run_history.find(sample(model, case, seed=len(rows) + 31))
        rows.append([(row.role, row.used, row.calls, row.blocks) for row in report.rows])
        assert not report.notes and not report.unplaced
    assert rows[0] == rows[1]


@pytest.mark.parametrize("node", ["SpatiotemporalGuidance", "PerturbedAttentionGuidance"])
def test_guidance_reaches_such_blocks(pack, inference, node):
    """An extra pass changes as much as without the other pack, to the last bits."""
    case, cls = PLAIN["LTX-2"], getattr(pack.nodes.guidance, f"VideoAttention{node}")
    given = defaults(cls)
    outs = []
    for change in (lambda model: model, tuned):
        model = change(cls.execute(case.build(), **given).args[0])
        outs.append(parts(sample(model, case, steps=2)))
    plain = parts(sample(case.build(), case, steps=2))
    for ours, theirs, without in zip(*outs, plain, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm() < 1e-1 * (ours - without).norm()


def test_a_guide_of_half_strength_in_such_a_block_stays_self_attention(pack, inference):
    """Calls with a part of the queries each, made by the block itself."""
    case = next(case for case in CASES if str(case) == "LTX-Video 0.9 guide of half strength")
    rows = []
    for change in (lambda model: model, tuned):
        model = change(
            pack.nodes.host.model_rules.add_rule(
                case.build(), pack.attention.routing.rules.Rule("reference", role="self")
            )
        )
        report = pack.nodes.host.run_history.find(sample(model, case, seed=len(rows) + 41))
        rows.append([(row.role, row.used, row.calls, row.blocks) for row in report.rows])
    assert rows[0] == rows[1] and {role for role, *_ in rows[0]} == {"self", "cross"}


def test_calls_of_a_second_model_are_told_by_number(pack, inference):
    """A guider may evaluate another MODEL with the options of ours: nothing of it is announced."""
    import comfy.sample
    from comfy_extras.nodes_custom_sampler import Guider_DualModel

    case = PLAIN["Wan"]
    spatial = pack.attention.patterns.spatial.Spatial()
    rule = pack.attention.routing.rules.Rule(shape=pack.attention.routing.rules.Shape(spatial))
    guider = Guider_DualModel(pack.nodes.host.model_rules.add_rule(case.build(), rule), case.build())
    guider.set_conds(prompt(case, 1), prompt(case, 2))
    guider.set_cfg(3.0)
    latent = case.latent()
    noise = comfy.sample.prepare_noise(latent, 1)
    sigmas = torch.tensor([1.0, 0.6, 0.0])
    out = guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=1)
    report = pack.nodes.host.run_history.find(out)
    calls = 2 * case.calls["self"]
    assert sum(row.calls for row in report.rows if row.role == "self" and row.used.startswith("host")) == calls
    assert (
        f"{calls} attention calls told nothing of themselves, as those of a second model without these nodes, and were "
        "left alone by: pattern spatial."
    ) in report.notes
