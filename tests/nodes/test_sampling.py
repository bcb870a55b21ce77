"""The sampler for one model beside the host's own, on tiny real models."""

from __future__ import annotations

import pytest
import torch
from studio import CASES, STEPS, Studio, first, interrupt, latent_of, nan, same
from studio import bar as bar
from studio import flawed as flawed
from studio import previews as previews
from tiny import case as tiny_case
from tiny import ltx2, wan


@pytest.fixture(params=CASES, ids=str)
def studio(pack, request, inference):
    return Studio(pack, request.param)


@pytest.fixture
def plain_studio(pack, inference):
    return Studio(pack, CASES[0])


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_equals_the_host_bit_for_bit(studio, filled):
    latent = latent_of(studio.case, filled)
    ours, theirs = studio.sample(latent), studio.custom(latent)
    assert same(ours[0], theirs[0]) and same(ours[1], theirs[1])
    assert set(ours[0]) == set(theirs[0]) and set(ours[1]) == set(theirs[1])


@pytest.mark.parametrize("filled", [False, True], ids=["empty", "filled"])
def test_sockets_equal_the_host_bit_for_bit(studio, filled):
    latent = latent_of(studio.case, filled)
    ours, theirs = studio.sockets(latent), studio.custom(latent)
    assert same(ours[0], theirs[0]) and same(ours[1], theirs[1])
    assert set(ours[0]) == set(theirs[0]) and set(ours[1]) == set(theirs[1])
    assert "Noise levels: 4 steps from 1 to 0." in ours[2]


def test_sockets_take_any_noise_guider_and_sampler(plain_studio):
    """As two SamplerCustomAdvanced in a row: half of the steps, and no new noise for the others."""
    from comfy_extras import nodes_custom_sampler as host

    sigmas = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
    guider = host.DualCFGGuider.execute(
        plain_studio.model, plain_studio.positive, plain_studio.negative, plain_studio.negative, 3.0, 2.0, "regular"
    ).args[0]
    half = {"sampler": "heun", "sigmas": sigmas[:3], "guider": guider}
    rest = {"sampler": "euler_ancestral", "sigmas": sigmas[2:], "noise": None, "guider": guider}
    latent = latent_of(plain_studio.case, filled=True)
    ours, theirs = plain_studio.sockets(latent, **half), plain_studio.custom(latent, **half)
    assert same(ours[0], theirs[0]) and same(ours[1], theirs[1]) and not same(ours[0], ours[1])
    assert same(plain_studio.sockets(ours[0], **rest)[0], plain_studio.custom(theirs[0], **rest)[0])


@pytest.mark.parametrize("at", range(STEPS))
def test_faults_with_sockets(plain_studio, flawed, at):
    from comfy.model_management import InterruptProcessingException

    latent = latent_of(plain_studio.case)
    with pytest.raises(RuntimeError, match=rf"NaN or Inf in step {at + 1} of 4\."):
        plain_studio.sockets(latent, model=flawed(plain_studio.model, at, nan))
    with pytest.raises(InterruptProcessingException):
        plain_studio.sockets(latent, model=flawed(plain_studio.model, at, interrupt))


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpmpp_2m", "uni_pc", "ddim", "dpm_2", "res_multistep"])
def test_equals_ksampler_with_every_kind_of_sampler(plain_studio, sampler):
    from nodes import common_ksampler

    args = (7, STEPS, 4.0, sampler, "simple", plain_studio.positive, plain_studio.negative)
    for denoise in (1.0, 0.5):
        latent = latent_of(plain_studio.case, filled=True)
        theirs = common_ksampler(plain_studio.model, *args, latent, denoise=denoise)[0]
        assert same(plain_studio.sample(latent, sampler_name=sampler, denoise=denoise)[0], theirs)


def test_the_input_stays_as_it_was(studio):
    latent = latent_of(studio.case, filled=True)
    latent |= {"downscale_ratio_spacial": 32}
    before = {k: [p.clone() for p in tiny_case.parts(v)] for k, v in latent.items() if k != "downscale_ratio_spacial"}
    out = studio.sample(latent)[0]
    assert set(latent) == {*before, "downscale_ratio_spacial"} and "downscale_ratio_spacial" not in out
    for key, parts in before.items():
        assert all(torch.equal(a, b) for a, b in zip(parts, tiny_case.parts(latent[key]), strict=True))


def test_seeds(plain_studio):
    assert same(plain_studio.sample(seed=3)[0], plain_studio.sample(seed=3)[0])
    assert not same(plain_studio.sample(seed=3)[0], plain_studio.sample(seed=4)[0])
    assert not same(plain_studio.sample(seed=2**64 - 1)[0], plain_studio.sample(seed=4)[0])


def test_no_denoise_gives_the_latent_back(plain_studio):
    latent = latent_of(plain_studio.case, filled=True)
    out, clean, report = plain_studio.sample(latent, denoise=0.0)
    assert same(out, latent) and same(clean, latent) and "0 steps" in report


def test_own_sampler_and_sigmas(plain_studio):
    import comfy.samplers

    sigmas = torch.tensor([1.0, 0.7, 0.2, 0.0])
    latent = latent_of(plain_studio.case)
    theirs = plain_studio.custom(latent, sigmas=sigmas, sampler="heun")[0]
    out, _, report = plain_studio.sample(latent, sigmas=sigmas, sampler=comfy.samplers.sampler_object("heun"))
    assert same(out, theirs) and "your own" in report


def test_auto_says_what_it_chose(pack, inference):
    from comfy_extras.nodes_lt import LTXVScheduler

    ltx, wan_ = Studio(pack, first(ltx2.CASES, "")), Studio(pack, wan.TEXT_ONLY[0])
    latent = latent_of(ltx.case)
    sigmas = LTXVScheduler.execute(STEPS, 2.05, 0.95, True, 0.1, latent).args[0]
    out, _, report = ltx.sample(latent, scheduler_name="auto")
    assert same(out, ltx.custom(latent, sigmas=sigmas)[0])
    # 3 x 4 x 5 tokens: 0.95 + 1.1 * (60 - 1024) / 3072.
    assert "ltxv, usual for LTX-2, shift 0.605 for 60 tokens; 4 steps from 1 to 0" in report
    out, _, report = wan_.sample(scheduler_name="auto")
    assert same(out, wan_.custom(latent_of(wan_.case))[0])
    assert "simple, usual for Wan, shift 8, the model's own" in report


def test_a_shift_set_by_another_node_is_said(pack, inference):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    studio = Studio(pack, wan.TEXT_ONLY[0])
    shifted = ModelSamplingSD3().patch(studio.model, 5.0)[0]
    assert "shift 5, set on this model" in studio.sample(model=shifted, scheduler_name="auto")[2]


def test_ltxv_schedule_with_part_of_the_noise(pack, inference):
    ltx = Studio(pack, CASES[0])
    sigmas = pack.nodes.runs.sampling_job.sigmas_of(ltx.model, "euler", "ltxv", 4, 0.5, latent_of(ltx.case))[0]
    whole = pack.nodes.runs.sampling_job.sigmas_of(ltx.model, "euler", "ltxv", 8, 1.0, latent_of(ltx.case))[0]
    assert torch.equal(sigmas, whole[4:])


def test_one_step_of_the_ltxv_schedule(pack, inference):
    """The host's scheduler gives NaN for one step."""
    ltx = Studio(pack, CASES[0])
    for denoise in (1.0, 0.6):
        sigmas, line = pack.nodes.runs.sampling_job.sigmas_of(
            ltx.model, "euler", "ltxv", 1, denoise, latent_of(ltx.case)
        )
        assert sigmas.tolist() == [1.0, 0.0] and line.endswith("1 steps from 1 to 0.")
    assert torch.isfinite(ltx.sample(steps=1, scheduler_name="auto")[0]["samples"]).all()


@pytest.mark.parametrize("at", range(STEPS))
def test_nan_stops_the_sampling_at_its_step(plain_studio, flawed, at):
    with pytest.raises(RuntimeError, match=rf"NaN or Inf in step {at + 1} of 4\. Try another kernel"):
        plain_studio.sample(model=flawed(plain_studio.model, at, nan))
    assert same(plain_studio.sample()[0], plain_studio.custom(latent_of(plain_studio.case))[0]), (
        "nothing is left behind"
    )


@pytest.mark.parametrize("at", range(STEPS))
def test_interrupt_within_a_step(plain_studio, flawed, at):
    from comfy.model_management import InterruptProcessingException

    calls = []
    model = flawed(plain_studio.model, at, lambda out: calls.append(at) or interrupt(out))
    with pytest.raises(InterruptProcessingException):
        plain_studio.sample(model=model)
    assert calls == [at]
    assert same(plain_studio.sample()[0], plain_studio.custom(latent_of(plain_studio.case))[0])
