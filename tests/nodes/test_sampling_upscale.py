"""The two-stage sampler with a latent that grows between the stages, beside the host's nodes in a row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from studio import CASES, Studio, first, interrupt, latent_of, nan, same
from studio import bar as bar
from studio import flawed as flawed
from tiny import case as tiny_case
from tiny import files, ltx2, wan

FIRST, SECOND = torch.tensor([1.0, 0.8, 0.4, 0.0]), torch.tensor([0.85, 0.5, 0.0])
# Of the second stage, where the first has 7.
SEED = 7 + 10**9
GROWS = [case for case in CASES if str(case) != str(first(CASES, "guides"))]


@pytest.fixture(params=GROWS, ids=str)
def studio(pack, request, inference):
    return Studio(pack, request.param)


@pytest.fixture
def plain_studio(pack, inference):
    return Studio(pack, CASES[0])


def between(how="interpolate", **widgets):
    """The node's `between` with its widgets."""
    by = {"upscale_by": 2.0} if how == "interpolate" else {}
    return {"between": how, **by, "second_steps": 2, "second_denoise": 0.5, **widgets}


def grow(studio, latent=None, how="interpolate", widgets=None, **more):
    given = {"sigmas": FIRST, "second_sigmas": SECOND, "cfg_high": 4.0, "cfg_low": 4.0, **more}
    return studio.two(latent, between=between(how, **(widgets or {})), **given)


def by_hand(studio, latent, upscale) -> tuple:
    """Two SamplerCustomAdvanced, the video taken out between them, upscaled and put back."""
    whole = studio.pack.nodes.host.latent.join_parts
    small = studio.custom(latent, sigmas=FIRST)[0]
    video, *sound = tiny_case.parts(small["samples"])
    return studio.custom({**small, "samples": whole([upscale(video), *sound])}, sigmas=SECOND, noise=SEED)


def doubled(video):
    import comfy.utils

    return comfy.utils.common_upscale(video, 2 * video.shape[-1], 2 * video.shape[-2], "bislerp", "disabled")


def test_equals_the_hosts_nodes_in_a_row(studio):
    """Sound, masks and start images too."""
    latent = latent_of(studio.case, filled=True)
    ours, theirs = grow(studio, latent), by_hand(studio, latent, doubled)
    assert same(ours[0], theirs[0]) and same(ours[1], theirs[1]) and ours[2] == 3
    sizes = [tiny_case.parts(x["samples"])[0].shape[-2:] for x in (latent, ours[0])]
    assert sizes[1] == tuple(2 * side for side in sizes[0])
    assert "in the latent, interpolated." in ours[3] and "The first stage: 3 steps" in ours[3]


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 2])
def test_the_second_stage_has_noise_of_its_own(plain_studio, monkeypatch, seed):
    """Of the same size too, where one seed would bring the first stage's noise back, number by number."""
    node, drawn = plain_studio.pack.nodes.runs.sampling_job, []
    usual = node.noise_of
    monkeypatch.setattr(node, "noise_of", lambda *args: drawn.append(usual(*args)) or drawn[-1])
    report = grow(plain_studio, widgets={"upscale_by": 1.0}, seed=seed, sampler_name="euler_ancestral")[3]
    first_noise, second_noise = drawn
    assert abs(float(torch.corrcoef(torch.stack([first_noise.flatten(), second_noise.flatten()]))[0, 1])) < 0.1
    assert f"noise is of seed {(seed + 10**9) % 2**64}." in report


class Statistics:
    """Per-channel statistics as LTX's VAE has them."""

    def un_normalize(self, x):
        return 3.0 * x + 1.0

    def normalize(self, x):
        return (x - 1.0) / 3.0


@pytest.fixture
def ltx_upscaler(comfy_host):
    """A small LATENT_UPSCALE_MODEL of LTX's class, as Load Latent Upscale Model makes it."""
    import comfy.model_patcher
    import comfy.ops
    from comfy.ldm.lightricks.latent_upsampler import LatentUpsampler

    model = LatentUpsampler.from_config(files.UPSCALER, operations=comfy.ops.disable_weight_init).float()
    tiny_case.fill(model)
    cpu = torch.device("cpu")
    return comfy.model_patcher.CoreModelPatcher(model, load_device=cpu, offload_device=cpu)


VAE = SimpleNamespace(first_stage_model=SimpleNamespace(per_channel_statistics=Statistics()))


@pytest.mark.parametrize("case", [CASES[0], first(ltx2.CASES, "")], ids=str)
def test_equals_the_hosts_upscaling_model(pack, inference, ltx_upscaler, case):
    from comfy_extras.nodes_lt_upsampler import LTXVLatentUpsampler

    studio = Studio(pack, case)
    latent = latent_of(case, filled=True)
    theirs = by_hand(
        studio,
        latent,
        lambda video: LTXVLatentUpsampler.execute({"samples": video}, ltx_upscaler, VAE).args[0]["samples"],
    )
    ours = grow(studio, latent, "upscale model", upscale_model=ltx_upscaler, vae=VAE)
    assert same(ours[0], theirs[0]) and "by the upscaling model" in ours[3]
    with pytest.raises(ValueError, match="vae: connect the model's VAE"):
        grow(studio, latent, "upscale model", upscale_model=ltx_upscaler)


def test_a_model_that_refines_what_is_interpolated(plain_studio):
    """HunyuanVideo 1.5's kind, which counts in pixels and needs no VAE."""
    seen = []

    class Refiner:
        def resample_latent(self, x):
            seen.append(tuple(x.shape))
            return x + 1.0

    out = grow(plain_studio, None, "upscale model", upscale_model=Refiner())[0]["samples"]
    assert seen == [(1, 128, 3, 8, 10)] and out.shape == (1, 128, 3, 8, 10)


def test_a_start_image_of_the_large_size(plain_studio):
    """What second_latent keeps comes out as it went in, the rest does not; it also gives the size."""
    large = {"samples": torch.full((1, 128, 3, 7, 9), 0.25), "noise_mask": torch.ones(1, 1, 3, 1, 1)}
    large["noise_mask"][:, :, 0] = 0.0
    out = grow(plain_studio, second_latent=large)[0]
    assert out["samples"].shape == (1, 128, 3, 7, 9) and torch.equal(out["noise_mask"], large["noise_mask"])
    assert torch.allclose(out["samples"][:, :, 0], large["samples"][:, :, 0], atol=1e-5)
    assert (out["samples"][:, :, 1:] - 0.25).abs().mean() > 0.01
    unmasked = grow(plain_studio, second_latent={"samples": large["samples"]})[0]
    assert unmasked["samples"].shape == (1, 128, 3, 7, 9) and "noise_mask" not in unmasked
    with pytest.raises(ValueError, match=r"second_latent: it is \(1, 128, 2, 7, 9\), the first stage's latent has"):
        grow(plain_studio, second_latent={**large, "samples": large["samples"][:, :, :2]})


def test_a_start_image_beside_sound(pack, inference):
    studio = Studio(pack, first(ltx2.CASES, ""))
    video, audio = tiny_case.parts(studio.case.latent())
    large = {
        "samples": torch.full((*video.shape[:3], 8, 10), 0.25),
        "noise_mask": torch.ones(1, 1, video.shape[2], 1, 1),
    }
    large["noise_mask"][:, :, 0] = 0.0
    out = grow(studio, second_latent=large)[0]
    made, sound = tiny_case.parts(out["samples"])
    assert torch.allclose(made[:, :, 0], large["samples"][:, :, 0], atol=1e-5)
    assert sound.shape == audio.shape and sound.abs().mean() > 0.01, "the sound is sampled along"


def test_noise_that_is_left_over_is_not_upscaled(plain_studio):
    latent, begun = latent_of(plain_studio.case, filled=True), torch.tensor([1.0, 0.8, 0.4])
    clean = plain_studio.custom(latent, sigmas=begun)[1]["samples"]
    theirs = plain_studio.custom({**latent, "samples": doubled(clean)}, sigmas=SECOND, noise=SEED)[0]
    assert same(grow(plain_studio, latent, sigmas=begun)[0], theirs)


def test_steps_and_noise_of_the_second_stage(pack, inference):
    studio = Studio(pack, wan.TEXT_ONLY[0])
    found = grow(studio, sigmas=None, second_sigmas=None, widgets={"second_steps": 3, "second_denoise": 0.4})
    sigmas = studio.pack.nodes.runs.sampling_job.sigmas_of(studio.model, "euler", "simple", 3, 0.4, None)[0]
    assert same(found[0], grow(studio, sigmas=None, second_sigmas=sigmas)[0])
    assert "Second stage: scheduler: simple" in found[3] and "3 steps from" in found[3]
    none = grow(studio, second_sigmas=None, widgets={"second_denoise": 0.0})
    assert same(none[0], {"samples": doubled(studio.custom(latent_of(studio.case), sigmas=FIRST)[0]["samples"])})


def test_two_models_and_cfgs(plain_studio, flawed):
    """The second stage is the second model's alone."""
    out = grow(plain_studio, low=flawed(plain_studio.model, 0, lambda x: x * 0.5))[0]
    assert not same(out, grow(plain_studio)[0]) and not same(out, grow(plain_studio, cfg_low=1.0)[0])
    assert same(grow(plain_studio, seed=3)[0], grow(plain_studio, seed=3)[0])
    assert not same(grow(plain_studio, seed=3)[0], grow(plain_studio, seed=4)[0])


def test_one_bar(plain_studio, bar):
    grow(plain_studio)
    assert [(value, total) for value, total, _ in bar] == [(i + 1, 5) for i in range(5)]


@pytest.mark.parametrize(
    ("at", "text"), [(0, "1 of 3 of the first"), (2, "3 of 3 of the first"), (3, "1 of 2 of the second")]
)
def test_faults_in_either_stage(plain_studio, flawed, at, text):
    from comfy.model_management import InterruptProcessingException

    with pytest.raises(RuntimeError, match=f"NaN or Inf in step {text} stage"):
        grow(plain_studio, high=flawed(plain_studio.model, at, nan))
    with pytest.raises(InterruptProcessingException):
        grow(plain_studio, high=flawed(plain_studio.model, at, interrupt))
    assert grow(plain_studio)[0]["samples"].isfinite().all()


def test_what_cannot_be(pack, plain_studio):
    with pytest.raises(ValueError, match="upscale_model: connect Load Latent Upscale Model"):
        grow(plain_studio, None, "upscale model")
    with pytest.raises(ValueError, match="guide frames .* are of one size"):
        grow(Studio(pack, first(CASES, "guides")))


# --- caches of other nodes -------------------------------------------------------------------------------------------


def cached(model):
    """EasyCache that skips what it can."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 10.0, 0.0, 1.0, False).args[0]


def test_a_cache_begins_anew_in_each_stage(pack, inference):
    """EasyCache on one model in both stages: what two samplers in a row give, each with a cache of its own."""
    studio = Studio(pack, wan.TEXT_ONLY[0])
    latent = latent_of(studio.case, filled=True)
    model = cached(studio.model)
    sigmas = torch.linspace(1.0, 0.0, 13)
    middle = studio.custom(latent, sigmas=sigmas[:7], model=model)[0]
    theirs = studio.custom(middle, noise=None, sigmas=sigmas[6:], model=model)[0]
    cfg = {"cfg_high": 4.0, "cfg_low": 4.0, "switch_step": 6}
    assert same(studio.two(latent, model, None, sigmas=sigmas, **cfg)[0], theirs)
    assert not same(studio.two(latent, sigmas=sigmas, **cfg)[0], theirs), "it does skip"
    small = studio.custom(latent, sigmas=FIRST, model=model)[0]
    grown = {**small, "samples": doubled(small["samples"])}
    large = studio.custom(grown, sigmas=SECOND, model=model, noise=SEED)[0]
    assert same(grow(studio, latent, high=model)[0], large), "of another size even"
