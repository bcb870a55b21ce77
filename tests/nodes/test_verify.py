"""Verify in a real ComfyUI: a model with a plan beside the exact one."""

from __future__ import annotations

import pytest
import torch
from calibrating import LATENT
from studio import bar as bar

from attention.core import canvas


def verify(lab, model, vae=None, steps=4):
    node, (positive, negative) = lab.pack.nodes.verify.VideoAttentionVerify, lab.prompt
    output = node.execute(
        model, positive, negative, {"samples": LATENT}, 1, steps, 1.0, "euler", "simple", vae=vae
    )  # fmt: skip
    return {**dict(zip((part.id for part in node.GET_SCHEMA().outputs), output.args)), "ui": output.ui}


def test_verify_compares_with_the_exact_model(lab, plain):
    spatial = lab.pack.attention.patterns.Spatial()
    rule = lab.pack.attention.plans.plan.Candidate(pattern=spatial).rule("self", (), 0.0, 1.0)
    model = lab.pack.nodes.host.model_rules.add_rules(lab.model, [rule])
    found = verify(lab, model, lab.pack.nodes.demo.DemoVAE())
    assert torch.equal(found["exact"]["samples"], plain)
    assert torch.equal(found["planned"]["samples"], lab.sample(model, seed=1))
    assert found["error"] == pytest.approx(lab.error(found["planned"]["samples"], plain), rel=1e-6)
    assert 0 < found["floor"] < 1e-4 < found["error"]
    planned, floor = (
        line.split(" | ") for line in found["report"].splitlines() if line.startswith(("| pl", "| exact, "))
    )
    assert 0 < float(planned[2]) < float(floor[2]) and float(planned[3]) < float(floor[3]) <= 1
    assert "times the noise floor" in found["report"] and "spatial (" in found["report"]
    assert float(planned[4]) > 0 and float(planned[5]) > 0 and planned[6].endswith("%")
    # The words of Compare, of the planned clip and of the noise floor's.
    assert "\nplanned: " in found["report"] and "\nexact, sdpa" in found["report"] and " dB" in found["report"]
    assert "budget" not in found["report"] and "No rule of this pack" not in found["report"]
    # Both say both: of the whole sampling and of attention alone.
    assert "whole sampling " in found["report"] and "x as fast, attention " in found["report"]
    assert found["picture"].shape[2:] == (canvas.WIDTH, 3)
    # Both clips play on the node, without another run.
    (played,) = found["ui"]["compare"]
    assert played["names"] == ["exact", "planned"] and played["clips"]["frames"] == len(played["psnr_of"]) > 8
    assert played["psnr"] == pytest.approx(float(planned[2]), abs=0.01) and not played["equal"]
    assert min(played["seconds"]) > 0 and played["verdict"] in found["report"]
    assert "Connect a VAE" not in found["report"]
    # The planned latent can be looked up by the Report node.
    assert lab.report(found["planned"]["samples"]).rows


def test_verify_s_bar_is_as_long_as_all_samplings(lab, bar):
    """Exact, planned, and each other exact kernel that may be needed."""
    others = [name for name in lab.pack.nodes.verify.OTHERS if not lab.pack.attention.backends.registry.why_not(name)]
    verify(lab, lab.model)
    assert {total for _, total, _ in bar} == {(2 + len(others)) * 4}
    assert [value for value, *_ in bar][:8] == list(range(1, 9)) and bar[-1][0] == bar[-1][1]


def test_verify_of_a_model_without_rules(lab, plain):
    found = verify(lab, lab.model)
    assert found["error"] == 0.0 and "within the noise floor" in found["report"]
    assert "planned ran on nothing of this pack." in found["report"] and "| - | - |" in found["report"]
    assert "No rule of this pack is on the model: planned and exact are the same." in found["report"]
    assert found["ui"]["compare"] == () and "Connect a VAE to see the exact clip" in found["report"]


@pytest.mark.parametrize("budget, words", [(0.9, "budget of 0.9 was kept"), (1e-7, "budget of 1e-07 was not kept")])
def test_verify_says_the_plan_s_budget(lab, plain, budget, words):
    plan_room = lab.pack.attention.plans.plan
    candidate = plan_room.Candidate(pattern=lab.pack.attention.patterns.Spatial())
    step = plan_room.PlanRule(candidate, "self", (0, 9), 0.0, 1.0, 0.1, None, None, 1.0, 2.0)
    plan = plan_room.Plan("M", "", 2, 1, 8, "cpu", 4, budget=budget, steps=(step,))
    found = verify(lab, lab.pack.nodes.host.model_rules.add_rules(lab.model, plan.rules()))
    assert words in found["report"].splitlines()[0]


def test_verify_says_when_a_cache_answered(lab, plain):
    from comfy_extras.nodes_easycache import EasyCacheNode

    model = EasyCacheNode.execute(lab.backend(lab.model, backend="sdpa"), 10.0, 0.0, 1.0, False).args[0]
    assert "of 8 steps something else answered for the model" in verify(lab, model, steps=8)["report"]
    assert "something else answered" not in verify(lab, lab.backend(lab.model, backend="sdpa"), steps=8)["report"]
