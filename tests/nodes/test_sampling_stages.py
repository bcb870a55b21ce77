"""The sampler for two models beside two samplers of the host in a row."""

from __future__ import annotations

import threading

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


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("case", [CASES[0], CASES[2], wan.TEXT_ONLY[0]], ids=str)
def test_equals_two_advanced_ksamplers(pack, inference, case, sampler):
    """Of methods that neither draw noise nor remember steps: there, nothing can be lost between two samplers."""
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


def apart(out, truth) -> float:
    """The relative L2 of two LATENTs, over all their parts the largest."""
    pairs = zip(*(tiny_case.parts(latent["samples"].double()) for latent in (out, truth)), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def test_one_model_in_two_stages_is_one_run_with_every_method(pack, inference):
    """What a method draws and remembers goes on over the switch: one run, for all that ComfyUI has."""
    import comfy.samplers

    latent = latent_of(CASES[0], filled=True)
    studio, wrong = Studio(pack, CASES[0]), {}
    for number, name in enumerate(comfy.samplers.SAMPLER_NAMES):
        whole = studio.sample(latent, cfg=3.5, steps=5, sampler_name=name)
        at = 1 + number % 4
        out, clean, _, report = studio.two(latent, switch_step=at, steps=5, sampler_name=name)
        error = max(apart(out, whole[0]), apart(clean, whole[1]))
        if not error <= 1e-5 or "This method" in report.replace("This method came", "") or not out["samples"].any():
            wrong[name, at] = error, report
    assert not wrong


@pytest.mark.parametrize("name", ["euler", "euler_ancestral", "dpmpp_2m", "uni_pc", "lms", "sa_solver", "dpmpp_2m_sde",
                                  "euler_ancestral_cfg_pp", "dpm_fast"])  # fmt: skip
def test_two_models_are_one_run_whose_model_changes(pack, inference, name):
    """Against one run of a model that is itself the one above a noise level and the other below."""
    from comfy.patcher_extension import WrappersMP

    studio = Studio(pack, wan.TEXT_ONLY[0])
    high, low = experts(studio)
    latent, sigmas = latent_of(studio.case, filled=True), torch.linspace(1.0, 0.0, 9) ** 1.2
    changing = studio.model.clone()

    def change(executor, x, timestep, *args, **kwargs):
        below = float(timestep.max()) <= 1000.0 * float(sigmas[3]) * 1.0001
        return (
            low.model.diffusion_model._forward(x, timestep, *args, **kwargs)
            if below
            else executor(x, timestep, *args, **kwargs)
        )

    changing.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "change", change)
    whole = studio.sample(latent, changing, cfg=3.5, sigmas=sigmas.clone(), sampler_name=name)[0]
    out = studio.two(latent, high, low, switch_step=3, sigmas=sigmas.clone(), sampler_name=name)[0]
    assert apart(out, whole) <= 1e-5
    assert apart(out, studio.sample(latent, cfg=3.5, sigmas=sigmas.clone(), sampler_name=name)[0]) > 1e-3


@pytest.mark.parametrize("name", ["euler_ancestral", "lcm", "er_sde"])
def test_no_noise_is_drawn_twice(pack, inference, monkeypatch, name):
    """The fresh noise that reaches the latent in the second stage is none of the first stage's."""
    import comfy.k_diffusion.sampling as host

    drawn, usual, tree = [], host.default_noise_sampler, host.BrownianTreeNoiseSampler

    def noted(make):
        def noisy(*args, **kwargs):
            source = make(*args, **kwargs)
            drawn.append([])

            def draw(*at):
                drawn[-1].append(source(*at))
                return drawn[-1][-1]

            return draw

        return noisy

    monkeypatch.setattr(host, "default_noise_sampler", noted(usual))
    monkeypatch.setattr(host, "BrownianTreeNoiseSampler", noted(tree))
    Studio(pack, CASES[0]).two(sampler_name=name, steps=6, switch_step=3)
    # The last one is what the second stage really took: its first draws bring it to where the first stage stopped.
    last = drawn[-1]
    assert len(last) >= 5
    for i, one in enumerate(last):
        for other in last[:i]:
            assert abs(float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])) < 0.2


def forgetful(model, x, sigmas, extra_args=None, callback=None, disable=None, kept=()):
    """A method of another pack that draws from the process's own generator and tells no step by its number."""
    for i in range(len(sigmas) - 1):
        clean = model(x, sigmas[i] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": 0, "denoised": clean})
        x = clean + sigmas[i + 1] * torch.randn_like(x)
    return x


def test_a_method_of_another_pack_goes_on_too(plain_studio, monkeypatch):
    import comfy.samplers

    monkeypatch.setattr(comfy.samplers, "sampler_object", lambda name: comfy.samplers.KSAMPLER(forgetful))
    sigmas = torch.linspace(1, 0, 7)
    whole = plain_studio.sample(cfg=3.5, sigmas=sigmas.clone())[0]
    assert apart(plain_studio.two(sigmas=sigmas.clone(), switch_step=3)[0], whole) <= 1e-5
    assert apart(plain_studio.two(sigmas=sigmas.clone(), switch_step=3, seed=8)[0], whole) > 0.1


def finer(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """A method with steps of its own: more of them for a larger latent, as adaptive ones make more for a harder one."""
    levels = sigmas if x.numel() == 1 else torch.linspace(float(sigmas[0]), 0.0, 11)
    for i in range(len(levels) - 1):
        clean = model(x, levels[i] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": 0, "denoised": clean})
        x = clean + levels[i + 1] / levels[i] * (x - clean)
    return x


def test_steps_that_nobody_rehearsed_are_told_by_their_level(pack, inference, monkeypatch):
    import comfy.samplers
    from comfy.patcher_extension import WrappersMP

    monkeypatch.setattr(comfy.samplers, "sampler_object", lambda name: comfy.samplers.KSAMPLER(finer))
    studio = Studio(pack, wan.TEXT_ONLY[0])
    models, seen = experts(studio), ([], [])
    for model, levels in zip(models, seen, strict=True):

        def note(executor, x, timestep, *args, levels=levels, **kwargs):
            levels.append(float(timestep.max()) / 1000.0)
            return executor(x, timestep, *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "note", note)
    studio.two(None, *models, sigmas=torch.tensor([1.0, 0.75, 0.45, 0.2, 0.0]), switch_step=2)
    assert sorted(set(seen[0]), reverse=True) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.5])
    assert sorted(set(seen[1]), reverse=True) == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_nothing_waits_after_a_fault(plain_studio, flawed):
    """The thread of a sampler ends with its node: after a fault in either stage, and at the end."""
    before = threading.active_count()
    for name in ("high", "low"):
        with pytest.raises(RuntimeError, match="NaN or Inf"):
            plain_studio.two(**{name: flawed(plain_studio.model, 1, nan)}, sampler_name="dpmpp_2m")
        assert threading.active_count() == before
    plain_studio.two()
    assert threading.active_count() == before


@pytest.mark.parametrize(("at", "which"), [(0, 1), (STEPS, 0), (99, 0)])
def test_a_stage_without_steps(plain_studio, at, which):
    models = experts(plain_studio)
    out, _, switch, report = plain_studio.two(low=models[1], switch_step=at)
    assert same(out, plain_studio.sample(model=models[which], cfg=3.5)[0])
    assert switch == min(at, STEPS)
    assert f"No switch: the {('first', 'second')[which]} model makes all {STEPS} steps." in report


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
    report = pack.nodes.host.run_history.find(out["samples"])
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
