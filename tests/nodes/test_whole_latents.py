"""Every node that runs a model gives it all that is in the LATENT: the mask, the batch's numbers, the sound; noise of
another kind is told by its input's name.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sampling_nodes import SAMPLERS, WAYS, Way, run
from studio import CASES as STUDIO
from studio import Studio, latent_of
from tiny import CASES, ltx2, ltxv
from tiny.case import parts

MASKED = [case for case in CASES if "noise_mask" in case.options and case.variant.startswith("LTX")]
BENCHMARK, MAPS = Way("VideoAttentionBenchmark"), Way("VideoAttentionMaps")


@pytest.fixture
def samplings(comfy_host, monkeypatch):
    """(noise, denoise_mask) of each sampling."""
    import comfy.samplers

    original, seen = comfy.samplers.CFGGuider.sample, []

    def sample(self, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
        seen.append((noise, denoise_mask))
        return original(self, noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)

    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", sample)
    return seen


@pytest.mark.parametrize("case", MASKED, ids=str)
def test_a_measurement_of_a_clip_with_guides(case, pack, inference, samplings):
    """Guides lie on a mask: without it ComfyUI's LTX ends with an error."""
    studio, latent = Studio(pack, case), latent_of(case)
    for way in (BENCHMARK, MAPS):
        run(way, studio, latent)
    assert samplings and all(mask is not None for _, mask in samplings)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("case", [ltxv.CASES[0], ltx2.CASES[0]], ids=str)
def test_every_node_passes_all_of_a_latent_on(way, case, pack, inference, samplings):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    studio = Studio(pack, case)
    nested = getattr(case.latent(), "is_nested", False)
    if "method" in way.choice and nested and not hasattr(studio.model.model, "map_context_window_to_modalities"):
        pytest.skip("this ComfyUI cuts no sound into windows")
    mask = torch.ones(1, 1, *parts(case.latent())[0].shape[2:])
    mask[:, :, 0] = 0.0
    latent = {"samples": case.latent(), "noise_mask": mask, "batch_index": [3]}
    run(way, studio, latent, window=9.0, steps=2 if way in SAMPLERS else 1)
    assert samplings
    for noise, denoise_mask in samplings:
        assert denoise_mask is not None
        wanted = Noise_RandomNoise(0).generate_noise(latent)
        assert all(torch.equal(a, b) for a, b in zip(parts(noise), parts(wanted), strict=True)) or way == MAPS


# --- noise of another kind -------------------------------------------------------------------------------------------


class Drawn:
    """A NOISE that gives these tensors."""

    seed = 3

    def __init__(self, *tensors):
        self.tensors = tensors

    def generate_noise(self, latent):
        import comfy.nested_tensor

        return self.tensors[0] if len(self.tensors) == 1 else comfy.nested_tensor.NestedTensor(list(self.tensors))


def of(name):
    return next(case for case in STUDIO if str(case) == name)


@pytest.mark.parametrize(
    ("case", "shapes", "said"),
    [
        ("LTX-2", [(1, 128, 3, 4, 5)], "noise: it gives video 1 x 128 x 3 x 4 x 5, the latent is video 1 x 128 x 3 x "
         "4 x 5 and sound 1 x 8 x 9 x 16. Connect RandomNoise, which draws noise for the sound too, or a latent of the "
         "noise's size."),
        ("LTX-2", [(1, 128, 3, 4, 5), (1, 8, 5, 16)], "noise: it gives video 1 x 128 x 3 x 4 x 5 and sound 1 x 8 x 5 "),
        ("LTX-Video 0.9", [(1, 128, 3, 4, 5), (1, 8, 9, 16)], "noise: it gives video 1 x 128 x 3 x 4 x 5 and sound "),
        ("LTX-Video 0.9", [(1, 128, 3, 4, 6)], "noise: it gives video 1 x 128 x 3 x 4 x 6, the latent is video 1 x "),
        ("LTX-Video 0.9", [(1, 128, 4, 5)], "noise: it gives video 1 x 128 x 4 x 5, the latent is video 1 x 128 x 3 "),
    ],
)  # fmt: skip
def test_noise_of_another_kind_is_named(case, shapes, said, pack, inference):
    studio = Studio(pack, of(case))
    _, *others = studio.neighbours()
    node = pack.nodes.sampler.VideoAttentionSamplerAdvanced
    with pytest.raises(ValueError) as told:
        node.execute(Drawn(*map(torch.randn, shapes)), *others, latent_of(studio.case))
    assert str(told.value).startswith(said)


@pytest.mark.parametrize("case", ["LTX-2", "LTX-Video 0.9"])
def test_noise_that_fits_is_taken(case, pack, inference):
    studio = Studio(pack, replace(of(case)))
    _, *others = studio.neighbours()
    latent = latent_of(studio.case)
    node = pack.nodes.sampler.VideoAttentionSamplerAdvanced
    out = node.execute(Drawn(*(torch.randn(part.shape) for part in parts(latent["samples"]))), *others, latent)
    assert all(torch.isfinite(part).all() for part in parts(out.args[0]["samples"]))


def test_a_role_without_any_keys_has_no_map(pack, inference):
    """WanDancer without CLIP: its blocks attend to a picture of no tokens."""
    import comfy.supported_models

    if not hasattr(comfy.supported_models, "WAN22_WanDancer"):
        pytest.skip("this ComfyUI has no WanDancer")
    name = "without CLIP, so without a single image token"
    case = next(case for case in CASES if (case.variant, case.name) == ("WanDancer", name))
    text = run(MAPS, Studio(pack, case), {"samples": case.latent()}).args[3]
    assert "No map of image-attention: it has 36 queries and 0 keys here." in text and "Heat: blocks 0-1" in text
