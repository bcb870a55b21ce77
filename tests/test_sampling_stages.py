"""The sampler for two models beside two samplers of the host in a row."""

from __future__ import annotations

import pytest
import torch
from studio import CASES, STEPS, Studio, first, interrupt, latent_of, nan, same
from studio import bar as bar
from studio import flawed as flawed
from tiny import case as tiny_case
from tiny import ltx2, wan


@pytest.fixture(params=CASES, ids=str)
def studio(pack, request, inference):
    return Studio(pack, request.param)


@pytest.fixture
def plain_studio(pack, inference):
    return Studio(pack, CASES[0])


def experts(studio) -> tuple:
    """Two models of other weights."""
    low = studio.case.build()
    tiny_case.fill(low.model.diffusion_model, seed=11)
    return studio.model, low


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_2m", "uni_pc"])
@pytest.mark.parametrize("case", [CASES[0], CASES[2], wan.TEXT_ONLY[0]], ids=str)
def test_equals_two_advanced_ksamplers(pack, inference, case, sampler):
    studio = Studio(pack, case)
    high, low = experts(studio)
    for at in range(1, STEPS):
        latent = latent_of(case, filled=True)
        middle = studio.advanced(latent, 0, at, True, model=high, sampler=sampler)
        theirs = studio.advanced(middle, at, STEPS, False, model=low, cfg=2.0, sampler=sampler)
        ours = studio.two(latent, high, low, switch_step=at, cfg_low=2.0, sampler_name=sampler)
        assert same(ours[0], theirs) and ours[2] == at
    assert not same(ours[0], studio.two(latent, low, high, switch_step=at, cfg_low=2.0, sampler_name=sampler)[0])


def test_equals_two_custom_samplers_with_sound(pack, inference):
    studio = Studio(pack, first(ltx2.CASES, ""))
    high, low = experts(studio)
    latent, sigmas = latent_of(studio.case, filled=True), torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
    middle = studio.custom(latent, sigmas=sigmas[:3], model=high)[0]
    theirs = studio.custom(middle, noise=None, sigmas=sigmas[2:], model=low)
    ours = studio.two(latent, high, low, sigmas=sigmas, cfg_high=4.0, cfg_low=4.0)
    assert same(ours[0], theirs[0]) and same(ours[1], theirs[1])


def test_one_model_in_two_stages_is_one_run(studio):
    """With a mask too, where two KSamplerAdvanced take the noisy latent for the one to keep."""
    latent = latent_of(studio.case, filled=True)
    whole = studio.sample(latent, cfg=3.5)[0]
    out = studio.two(latent, switch_step=2)[0]
    for a, b in zip(tiny_case.parts(out["samples"]), tiny_case.parts(whole["samples"]), strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize(("at", "which"), [(0, 1), (STEPS, 0), (99, 0)])
def test_a_stage_without_steps(plain_studio, at, which):
    models = experts(plain_studio)
    out, _, switch, report = plain_studio.two(low=models[1], switch_step=at)
    assert same(out, plain_studio.sample(model=models[which], cfg=3.5)[0])
    assert switch == min(at, STEPS) and "No switch" in report


def test_the_boundary(plain_studio):
    sigmas = torch.tensor([1.0, 0.9, 0.875, 0.5, 0.0])
    for boundary, step in ((0.875, 3), (0.9, 2), (0.95, 1), (2.0, 0), (0.0, 4)):
        got = plain_studio.two(sigmas=sigmas, switch_at="sigma boundary", boundary=boundary)
        assert got[2] == step
    assert "after step 3 of 4" in plain_studio.two(sigmas=sigmas, switch_at="sigma boundary")[3]


def test_each_model_keeps_its_patches(pack, lab):
    """Our own rules and counts, the nearest thing at hand."""
    studio = Studio(pack, CASES[0])
    high, low = lab.backend(studio.model, backend="sdpa"), lab.backend(studio.model, backend="reference")
    out = studio.two(high=high, low=low, switch_step=3)[0]
    report = pack.nodes._runs.find(out["samples"])
    assert {row.used for row in report.rows} == {"reference"} and report.steps == 1


def test_two_stages_have_one_bar(studio, bar):
    studio.two(switch_step=1)
    assert [(value, total) for value, total, _ in bar] == [(i + 1, STEPS) for i in range(STEPS)]


def test_other_shifts_are_named(pack, inference):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    studio = Studio(pack, wan.TEXT_ONLY[0])
    shifted = ModelSamplingSD3().patch(studio.model, 5.0)[0]
    assert "shifts differ (8.0 and 5.0)" in studio.two(low=shifted)[3]
    assert "shifts" not in studio.two(high=shifted, low=shifted.clone())[3]


@pytest.mark.parametrize("stage", ["first", "second"])
def test_faults_in_either_stage(plain_studio, flawed, stage):
    from comfy.model_management import InterruptProcessingException

    name = "high" if stage == "first" else "low"
    with pytest.raises(RuntimeError, match=f"NaN or Inf in step 2 of 2 of the {stage} model"):
        plain_studio.two(**{name: flawed(plain_studio.model, 1, nan)})
    with pytest.raises(InterruptProcessingException):
        plain_studio.two(**{name: flawed(plain_studio.model, 0, interrupt)})
    assert same(plain_studio.two()[0], plain_studio.two()[0])
