"""Previews touch no render: previewers and progress bars that other packs put in the host's place, beside all samplers.

The stand-ins behave as real ones do: KJNodes' Model Preview Override replaces the method on the host's own class and
gives None, because it sends the picture itself; animated previewers of others raise on a clip's five axes; one decoded
in place (https://github.com/Comfy-Org/ComfyUI/issues/13366).
"""

from __future__ import annotations

import itertools

import pytest
import torch
from PIL import Image
from sampling_nodes import SAMPLERS, Way, run
from studio import CASES, Studio, latent_of, same
from studio import bar as bar
from studio import previews as previews

SOCKETS = Way("VideoAttentionSamplerAdvanced")
WITH_SOUND = next(case for case in CASES if case.name == "sound and video in part kept")


def picture():
    return "JPEG", Image.new("RGB", (8, 8)), 8


def shifts_the_clip(x0):
    x0.mul_(0).add_(7.0)
    return picture()


def draws_noise(x0):
    torch.manual_seed(123)
    torch.randn(5)
    return picture()


def fails(x0):
    raise RuntimeError("expected 4 dimensions, got 5")


def runs_out_of_memory(x0):
    raise torch.cuda.OutOfMemoryError("simulated")


class BadText(Exception):
    def __str__(self):
        raise ValueError("no text either")


def fails_without_a_text(x0):
    raise BadText


CALLS = itertools.count()


def none_at_times(x0):
    return picture() if next(CALLS) % 2 else None


PREVIEWERS = (
    lambda x0: None, none_at_times, shifts_the_clip, draws_noise, fails, runs_out_of_memory, fails_without_a_text,
    lambda x0: "nothing a bar takes", lambda x0: ("JPEG", None, None),
)  # fmt: skip
NAMES = ("none", "none at times", "in place", "random", "raises", "memory", "no text", "no tuple", "no picture")


def of_others(make):
    class Previewer:
        def decode_latent_to_preview_image(self, kind, x0):
            return make(x0)

    return Previewer()


@pytest.mark.parametrize(("way", "case"), [*((way, CASES[0]) for way in SAMPLERS), (SOCKETS, WITH_SOUND)], ids=str)
def test_a_render_is_the_same_whatever_previews_it(way, case, pack, inference, bar, previews, monkeypatch):
    studio = Studio(pack, case)
    # One step of each window is enough, and a method that draws noise after its preview.
    steps = 1 if "method" in way.choice else 2

    def sample():
        return run(way, studio, latent_of(case), sampler="euler_ancestral", seed=7, steps=steps).args[:2]

    with monkeypatch.context() as without:
        without.setattr(previews, "get_previewer", lambda *_: None)
        truth = sample()
    for kind, make in zip(NAMES, PREVIEWERS, strict=True):
        with monkeypatch.context() as with_one:
            with_one.setattr(previews, "get_previewer", lambda *_, make=make: of_others(make))
            found = sample()
        assert all(same(out, true) for out, true in zip(found, truth, strict=True)), kind
        with monkeypatch.context() as on_the_host:
            method = lambda self, kind, x0, make=make: make(x0)  # noqa: E731
            on_the_host.setattr(previews.LatentPreviewer, "decode_latent_to_preview_image", method)
            found = sample()
        assert all(same(out, true) for out, true in zip(found, truth, strict=True)), f"the host's, {kind}"


def test_pictures_there_are_still_shown(pack, inference, bar, previews, monkeypatch):
    """One that gives None for some frames loses those alone."""
    monkeypatch.setattr(
        previews.LatentPreviewer, "decode_latent_to_preview_image", lambda self, kind, x0: none_at_times(x0)
    )
    Studio(pack, CASES[0]).sample()
    assert any(preview is not None for *_, preview in bar)


def test_a_previewer_that_failed_is_left_alone(pack, inference, bar, previews, monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(previews, "get_previewer", lambda *_: of_others(lambda x0: asked.append(1) or fails(x0)))
    Studio(pack, CASES[0]).sample()
    assert len(asked) == 1 and [value for value, *_ in bar] == [1, 2, 3, 4]
    lines = [record.getMessage() for record in caplog.records if "previews" in record.getMessage()]
    assert lines == ["Video Attention goes on without previews: RuntimeError: expected 4 dimensions, got 5"]


@pytest.mark.parametrize("where", ["get_previewer", "hook"])
def test_what_makes_previewers_and_bars_may_fail_too(where, pack, inference, previews, monkeypatch):
    import comfy.utils

    studio = Studio(pack, CASES[0])
    truth = studio.sample()[:2]

    def broken(*args, **kwargs):
        raise RuntimeError("of another pack")

    if where == "hook":
        monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", broken)
    else:
        monkeypatch.setattr(previews, "get_previewer", broken)
    assert all(same(out, true) for out, true in zip(studio.sample()[:2], truth, strict=True))


@pytest.mark.parametrize("where", ["get_previewer", "hook"])
def test_an_interrupt_comes_through(where, pack, inference, previews, monkeypatch):
    """The host's bar raises it, and so may a previewer that asks whether it is still wanted."""
    import comfy.utils
    from comfy.model_management import InterruptProcessingException

    def interrupted(*args, **kwargs):
        raise InterruptProcessingException

    if where == "hook":
        monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", interrupted)
    else:
        monkeypatch.setattr(previews, "get_previewer", lambda *_: of_others(interrupted))
    with pytest.raises(InterruptProcessingException):
        Studio(pack, CASES[0]).sample()
