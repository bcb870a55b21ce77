"""Forecasts under every sampler of the host: which steps, and that what is computed is the model's own."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from forecasting import equal, far, forecast, made_steps, sampled
from tiny import plain
from tiny.case import parts

from attention.core.reason import Reason
from attention.forecast.samplers import ANY, ONE, TABLE

CASE = plain()["Wan"]
STEPS = 9


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


@pytest.fixture(scope="module")
def names(pack):
    import comfy.samplers

    return comfy.samplers.SAMPLER_NAMES


def rehearsal_of(pack, model, name, steps=STEPS):
    import comfy.samplers

    host = pack.nodes.host.rehearsal
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    guide = host.Over(model, model_patcher=model, inner_model=model.model)
    return host.rehearse(comfy.samplers.sampler_object(name), sigmas, guide)


def test_the_table_has_every_sampler_of_the_host(names):
    # A newer host's go by their rehearsal.
    assert not set(names) - set(TABLE) and len(TABLE) == len(set(TABLE)) >= len(names)


@pytest.mark.parametrize("name", TABLE)
def test_the_table_says_what_the_sampler_does(name, pack, model, names, inference):
    if name not in names:
        pytest.skip("not in this host")
    found = rehearsal_of(pack, model, name)
    several = max(call.stage for call in found.calls) > 0
    if isinstance(TABLE[name], Reason):
        assert several or name == "dpm_adaptive"
    else:
        assert TABLE[name] == (ONE if several or found.noisy else ANY), (several, found.noisy)


def check_steps(report, calls):
    """Every evaluation is counted with its step. A sampler that chooses its own steps calls back at their end."""
    if calls and calls[0].begins:
        counted, own = [sum(step.calls.values()) for step in report.timeline], Counter(call.step for call in calls)
        each = sum(counted) // len(calls)
        assert each and counted == [each * own[step] for step in range(len(own))]


@pytest.mark.parametrize("name", TABLE)
def test_every_sampler(name, pack, model, names, inference):
    if name not in names:
        pytest.skip("not in this host")
    cfg = 2.0 if name.endswith("cfg_pp") else 1.0
    exact, _ = sampled(pack, model, CASE, name, STEPS, cfg)
    idle, report = sampled(pack, forecast(pack, model, in_a_row=0), CASE, name, STEPS, cfg)
    assert equal(idle, exact) and not report.forecasts
    check_steps(report, rehearsal_of(pack, model, name).calls)
    assert any("the schedule computes all" in note for note in report.notes) or isinstance(TABLE[name], Reason)
    out, report = sampled(pack, forecast(pack, model, in_a_row=2), CASE, name, STEPS, cfg)
    assert all(part.isfinite().all() for part in parts(out))
    found = made_steps(report)
    if isinstance(TABLE[name], Reason):
        assert not found and equal(out, exact)
        assert any(note == f"Nothing was forecast: {name}: {TABLE[name]}." for note in report.notes), report.notes
        return
    assert found == ([3, 5, 7] if TABLE[name] == ONE else [3, 4, 6, 7]) if len(report.timeline) == STEPS else found
    assert 0 < report.forecasts < report.evaluations
    # Of an untrained model the denoised clip is noise, and no forecast knows that of the next step.
    noisy = rehearsal_of(pack, model, name).noisy
    assert noisy or far(out, exact) < 0.05
    kept, report = sampled(pack, forecast(pack, model, in_a_row=2, max_error=0.05), CASE, name, STEPS, cfg)
    assert far(kept, exact) < 0.05 and (not report.forecasts) == noisy
    if TABLE[name] == ONE:
        assert not any(step + 1 in found for step in found)


@pytest.mark.parametrize("name", ["euler", "heun", "euler_ancestral", "res_multistep", "seeds_3", "uni_pc"])
def test_what_is_computed_is_the_models_own(name, pack, model, inference):
    from comfy.patcher_extension import WrappersMP

    answers = []

    def outside(executor, x, sigma, *args, **kwargs):
        out = executor(x, sigma, *args, **kwargs)
        options = args[3]
        run = options.get("video_attention.forecast")
        if run is not None and not run.forecasting:
            plain = {key: value for key, value in options.items() if key != "video_attention.forecast"}
            answers.append((out, executor(x, sigma, *args[:3], plain, *args[4:], **kwargs)))
        return out

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "outside", outside)
    _, report = sampled(pack, forecast(pack, watched), CASE, name, STEPS)
    assert report.forecasts and len(answers) == report.evaluations - report.forecasts
    assert all(torch.equal(own, again) for own, again in answers)


def test_noise_that_is_asked_for_is_seen(pack, model, inference):
    import comfy.samplers

    churned = comfy.samplers.ksampler("euler", {"s_churn": 2.0})
    _, report = sampled(pack, forecast(pack, model, in_a_row=3), CASE, churned, STEPS)
    assert made_steps(report) == [3, 5, 7]
    assert any(note.startswith("Forecast: the denoised clip") for note in report.notes)


def test_a_sampler_of_another_pack_goes_by_its_rehearsal(pack, model, inference):
    import comfy.k_diffusion.sampling as k
    import comfy.samplers

    def own(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return k.sample_heun(model, x, sigmas, extra_args, callback, disable)

    _, report = sampled(pack, forecast(pack, model, in_a_row=3), CASE, comfy.samplers.KSAMPLER(own), STEPS)
    assert made_steps(report) == [3, 5, 7]


def test_a_sampler_that_does_otherwise_than_rehearsed_is_left_alone(pack, model, inference):
    import comfy.samplers

    def fickle(model, x, sigmas, extra_args=None, callback=None, disable=None):
        for step, sigma in enumerate(sigmas[:-1]):
            level = sigma * (0.9 if x.numel() > 1 and step > 5 else 1.0)
            out = model(x, level * x.new_ones([x.shape[0]]), **(extra_args or {}))
            callback({"i": step, "denoised": out, "x": x})
        return out

    _, report = sampled(pack, forecast(pack, model), CASE, comfy.samplers.KSAMPLER(fickle), STEPS)
    assert made_steps(report) == [3, 5]
    assert any("otherwise than in a rehearsal" in note for note in report.notes)


def test_a_sampler_that_cannot_be_rehearsed_is_left_alone(pack, model, inference):
    import comfy.samplers

    def large(model, x, sigmas, extra_args=None, callback=None, disable=None):
        if x.numel() == 1:
            raise ValueError("too small")
        return comfy.samplers.ksampler("euler").sampler_function(model, x, sigmas, extra_args, callback, disable)

    _, report = sampled(pack, forecast(pack, model), CASE, comfy.samplers.KSAMPLER(large), STEPS)
    assert not report.forecasts and any("did not run in a rehearsal" in note for note in report.notes)
