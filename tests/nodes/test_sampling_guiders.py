"""Guiders of other nodes in the samplers of two stages and of long clips."""

from __future__ import annotations

import guiders
import pytest
import torch
from guiders import KINDS, WITH_SOUND
from long_studio import CASES, FRAMES, LongStudio
from sampling_nodes import METHODS
from studio import Studio, latent_of, same
from tiny import case as tiny_case

CFG = 3.0
TWO = {"steps": 3, "cfg_high": CFG, "cfg_low": CFG}


class Guided:
    """A studio of a case, and what stands on the inputs that a guider makes useless: other prompts, another cfg."""

    def __init__(self, pack, name):
        self.studio, case = LongStudio(pack, CASES[name]), CASES[name]
        self.latent = latent_of(case, filled=True)
        self.prompts = (self.studio.positive, self.studio.negative, tiny_case.prompt(case, 5))

    def guider(self, kind="CFG"):
        return KINDS[kind](self.studio.model, *self.prompts)

    def aside(self):
        """The studio with prompts that nobody wants."""
        self.studio.positive, self.studio.negative = (tiny_case.prompt(self.studio.case, seed) for seed in (8, 9))
        return self.studio


def by_name(model, positive, negative, cfg=CFG):
    """A CFGGuider whose prompts have names of their own."""
    return guiders.named(model, positive, negative, positive, cfg)


# A start image beside the noise, guides, sound and masks of both: all that a window gets its own part of.
CUT = ("Wan start image", "LTX-2 guide", "LTX-2 kept")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CUT)
def test_windows_are_the_guider_s_whatever_its_prompts_are_called(name, method, pack, inference):
    """As the same prompts and cfg on this node's own inputs, bit for bit."""
    lab = Guided(pack, name)
    truth = lab.studio.long(lab.latent, method=method, cfg=CFG, model=lab.studio.model.clone())
    made = by_name(lab.studio.model, *lab.prompts[:2])
    held = {key: list(conds) for key, conds in made.original_conds.items()}
    out = lab.aside().long(lab.latent, method=method, cfg=9.0, guider=made)
    assert same(out[0], truth[0]) and same(out[1], truth[1]) and out[2] == truth[2]
    assert "Guider: Named, by its own model, prompts and cfg. Without effect: model, positive, neg" in out[3]
    assert made.model_patcher is lab.studio.model and "context_handler" not in made.model_options
    assert all(a is b for key, conds in held.items() for a, b in zip(conds, made.original_conds[key], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_one_window_is_the_guider_sampled_by_the_host(kind, pack, inference):
    lab = Guided(pack, "Wan")
    steps = lab.studio.neighbours(guider=lab.guider(kind))[3][-3:]
    truth = lab.studio.custom(lab.latent, guider=lab.guider(kind), sigmas=steps)
    out = lab.aside().long(lab.latent, window=FRAMES, sigmas=steps, guider=lab.guider(kind))
    assert same(out[0], truth[0])


@pytest.mark.parametrize("kind", WITH_SOUND)
def test_guiders_of_video_and_sound(kind, pack, inference):
    """In one window what the host gives; in several each stream keeps its own length and guidance."""
    lab, make = Guided(pack, "LTX-2"), WITH_SOUND[kind]
    steps = lab.studio.neighbours(guider=make(lab.studio.model, *lab.prompts))[3][-3:]
    truth = lab.studio.custom(lab.latent, guider=make(lab.studio.model, *lab.prompts), sigmas=steps)
    one = lab.aside().long(lab.latent, window=FRAMES, sigmas=steps, guider=make(lab.studio.model, *lab.prompts))
    assert same(one[0], truth[0])
    for method in METHODS:
        out = lab.studio.long(lab.latent, method=method, steps=1, guider=make(lab.studio.model, *lab.prompts))
        video, sound = out[0]["samples"].unbind()
        assert video.isfinite().all() and sound.isfinite().all()
        assert (video.shape[2], sound.shape[2]) == (FRAMES, 3 * FRAMES) and "Seams of the sound" in out[3]


@pytest.mark.parametrize("kind", ["basic", "DualCFG nested", "PerpNeg", "DualModel", "in place"])
def test_guiders_of_any_kind_are_sampled_in_windows(kind, pack, inference):
    lab, seen = Guided(pack, "Wan start image"), set()
    model = lab.studio.model.clone()

    def look(executor, x, *args, **kwargs):
        seen.add(x.shape[2])
        return executor(x, *args, **kwargs)

    from comfy.patcher_extension import WrappersMP

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    for method in METHODS:
        made = KINDS[kind](model, *lab.prompts)
        out = lab.studio.long(lab.latent, method=method, steps=1, guider=made)[0]["samples"]
        assert out.isfinite().all() and out.shape[2] == FRAMES
    assert max(seen) <= 5, "a window of 4 and the frame before it, for every prompt and model"


def test_the_frame_rate_of_a_guider_s_prompts_counts(pack, inference):
    lab = Guided(pack, "LTX")
    for _, options in lab.prompts[0]:
        options["frame_rate"] = 48.0
    made = by_name(lab.studio.model, *lab.prompts[:2])
    out = lab.aside().long(unit="seconds", window=28 / 24, overlap=1 / 3, frame_rate=24.0, guider=made)
    assert "windows of 8 latent frames over 10, overlap 2." in out[3]


def test_options_of_a_guider_s_own_are_kept(pack, inference):
    """One whose options are not its model's: here a function behind the guidance."""
    lab = Guided(pack, "LTX")
    made = lab.guider()
    made.model_options = made.model_patcher.clone().model_options
    made.model_options["sampler_post_cfg_function"] = [lambda args: args["denoised"] * 0.0 + 2.0]
    for method in METHODS:
        clean = lab.studio.long(method=method, guider=made)[1]["samples"]
        assert torch.allclose(clean, torch.full_like(clean, 2.0), atol=1e-5)


@pytest.mark.parametrize("wrong", ["a text", object(), {"guider": 1}, torch.zeros(1)], ids=lambda x: type(x).__name__)
def test_what_is_no_guider_is_refused_in_one_sentence(wrong, pack, inference):
    studio = LongStudio(pack, CASES["LTX"])
    kind = type(wrong).__name__
    for name, run in (("guider", studio.long), ("guider", studio.two), ("guider_low", studio.two)):
        with pytest.raises(
            ValueError, match=f"^{name}: it is of the type {kind}, which is no GUIDER. Connect [^.]*\\.$"
        ):
            run(**{name: wrong})
    with pytest.raises(ValueError, match="no GUIDER"):
        studio.long(guider=studio.model)


# --- two stages ------------------------------------------------------------------------------------------------------

BETWEEN = {
    "experts": {"between": "nothing"},
    "larger": {"between": "interpolate", "upscale_by": 2.0, "second_steps": 2, "second_denoise": 0.5},
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("name", ["LTX-2", "Wan"])
def test_both_stages_are_the_guider_s(name, between, pack, inference):
    lab, how = Guided(pack, name), {**TWO, "between": BETWEEN[between]}
    other = lab.studio.case.build()
    for low in (None, other):
        truth = lab.studio.two(lab.latent, low=low, **how)
        made = by_name(lab.studio.model, *lab.prompts[:2])
        aside = Guided(pack, name).aside()
        aside.model = other
        out = aside.two(lab.latent, low=low, **{**how, "cfg_high": 1.0, "cfg_low": 8.0}, guider=made)
        assert same(out[0], truth[0]) and same(out[1], truth[1]) and out[2] == truth[2]
        assert "Without effect: model_high, positive, negative, cfg_high and cfg_low." in out[3]


@pytest.mark.parametrize("between", BETWEEN)
def test_each_stage_has_its_own_guider(between, pack, inference):
    lab, how = Guided(pack, "LTX"), {**TWO, "between": BETWEEN[between]}
    other = lab.studio.case.build()
    truth = lab.studio.two(lab.latent, low=other, **{**how, "cfg_low": 1.5})
    high, low = (guiders.cfg_guider(m, *lab.prompts[:2], cfg) for m, cfg in ((lab.studio.model, CFG), (other, 1.5)))
    both = lab.studio.two(lab.latent, **how, guider=high, guider_low=low)
    second = lab.studio.two(lab.latent, **{**how, "cfg_low": 7.0}, guider_low=low)
    assert same(both[0], truth[0]) and same(second[0], truth[0])
    assert (
        "Guider_low: CFGGuider, by its own model, prompts and cfg. Without effect: model_low and cfg_low." in second[3]
    )
    assert "Without effect: model_low, positive, negative and cfg_low." in both[3]


def test_guides_of_a_guider_cannot_grow_either(pack, inference):
    studio = Studio(pack, CASES["LTX-2 guide"])
    made = by_name(studio.model, studio.positive, studio.negative)
    plain = Studio(pack, CASES["LTX-2"])
    for name in ("guider", "guider_low"):
        with pytest.raises(ValueError, match="guide frames"):
            plain.two(**TWO, between=BETWEEN["larger"], **{name: made})
