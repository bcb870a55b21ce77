"""The sampler for long clips on tiny real models: both methods, sound, masks, batches, faults."""

from __future__ import annotations

import pytest
import torch
from long_studio import CASES, FRAMES, STEPS, WINDOW, LongStudio
from sampling_nodes import METHODS
from studio import bar as bar
from studio import flawed as flawed
from studio import interrupt, latent_of, nan, same, short_of_memory
from studio import previews as previews
from tiny import case as tiny_case
from tiny import minimax


@pytest.fixture(params=CASES)
def studio(pack, request, inference):
    return LongStudio(pack, CASES[request.param])


@pytest.fixture
def plain_studio(pack, inference):
    return LongStudio(pack, CASES["LTX"])


@pytest.fixture
def sound_studio(pack, inference):
    return LongStudio(pack, CASES["LTX-2"])


@pytest.mark.parametrize("method", METHODS)
def test_one_window_is_the_plain_sampler(studio, method):
    latent = latent_of(studio.case, filled=True)
    plain, long = studio.sample(latent, steps=STEPS), studio.long(latent, method=method, window=FRAMES, overlap=0)
    assert same(long[0], plain[0]) and same(long[1], plain[1])
    assert long[2] == 0.0 and "1 window of 10 latent frames over 10" in long[3]


@pytest.mark.parametrize("method", METHODS)
def test_several_windows(studio, method):
    if studio.case is CASES["LTX guides"]:
        pytest.skip("the host cannot: see test_what_cannot_be")
    latent = latent_of(studio.case, filled=True)
    before = [part.clone() for part in tiny_case.parts(latent["samples"])]
    out, clean, seam, report = studio.long(latent, method=method)
    for a, b, was, now in zip(*(tiny_case.parts(x) for x in (out["samples"], clean["samples"])), before,
                              tiny_case.parts(latent["samples"]), strict=True):  # fmt: skip
        assert a.shape == b.shape == was.shape and a.isfinite().all() and b.isfinite().all()
        assert torch.equal(was, now), "the input stays"
        assert not torch.isclose(a, was).flatten(3).all(-1).all(1).all(0)[3:FRAMES].any(), "every frame was sampled"
    assert 0.0 < seam < 100.0 and "3 windows of 4 latent frames over 10, overlap 1" in report
    assert ("Seams of the sound" in report) == (len(before) == 2)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_mask_keeps_is_kept(pack, inference, method):
    for name in ("LTX start image", "LTX-2 kept"):
        studio = LongStudio(pack, CASES[name])
        latent = latent_of(studio.case, filled=True)
        out = studio.long(latent, method=method)[0]["samples"]
        parts = zip(tiny_case.parts(out), tiny_case.parts(latent["samples"]), (1, 3), strict=False)
        for made, was, frames in parts:
            assert torch.allclose(made[:, :, :frames], was[:, :, :frames], atol=1e-5)
            assert not torch.allclose(made[:, :, frames : frames + 1], was[:, :, frames : frames + 1], atol=1e-2)


@pytest.mark.parametrize("length", [(4, 1), (4, 3), (7, 2), (1, 0)], ids=str)
def test_blending_keeps_a_constant(sound_studio, length):
    """A model that predicts 3 in every window, in video and sound."""
    from comfy.patcher_extension import WrappersMP

    model = sound_studio.model.clone()
    model.add_wrapper_with_key(
        WrappersMP.CALC_COND_BATCH,
        "constant",
        lambda executor, model, conds, x, *_: [torch.full_like(x, 3.0) for _ in conds],
    )
    clean = sound_studio.long(model=model, window=length[0], overlap=length[1])[1]["samples"]
    assert all(torch.allclose(part, torch.full_like(part, 3.0), atol=1e-5) for part in tiny_case.parts(clean))


def test_blending_passes_from_one_window_to_the_other(plain_studio):
    """A model that predicts the number of the window, whose weights rise over 3 shared frames."""
    from comfy.patcher_extension import WrappersMP

    def number(executor, model, conds, x, timestep, options):
        first = options["transformer_options"]["context_window"].index_list[0]
        return [torch.full_like(x, float(first > 0)) for _ in conds]

    model = plain_studio.model.clone()
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "number", number)
    latent = {"samples": torch.zeros(1, 128, 9, 4, 5)}
    out = plain_studio.long(latent, model=model, window=6, overlap=3)[1]["samples"][0, 0, :, 0, 0]
    assert out.tolist() == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1], abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_samples(pack, inference, method):
    """Each of a batch by itself, with its own noise."""
    studio = LongStudio(pack, CASES["LTX batch"])
    both = studio.long(method=method, free_noise=False)[0]["samples"]
    for i in range(2):
        latent = {"samples": torch.zeros(1, *both.shape[1:]), "batch_index": [i]}
        assert torch.allclose(
            studio.long(latent, method=method, free_noise=False)[0]["samples"], both[i : i + 1], atol=1e-4
        )
    assert not torch.allclose(both[0], both[1], atol=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_seeds(sound_studio, method):
    assert same(sound_studio.long(seed=3, method=method)[0], sound_studio.long(seed=3, method=method)[0])
    assert not same(sound_studio.long(seed=3, method=method)[0], sound_studio.long(seed=4, method=method)[0])


def test_extension_leaves_finished_frames(plain_studio, flawed):
    """The clip of a run that was stopped is the beginning of the whole clip."""
    whole = plain_studio.long(method="extend")[0]["samples"]
    for window, frames in ((1, 4), (2, 7)):
        model = flawed(plain_studio.model, window * STEPS, nan)
        part, _, _, report = plain_studio.long(method="extend", model=model)
        assert torch.equal(part["samples"], whole[:, :, :frames])
        assert f"NaN or Inf in step 1 of 3 of window {window + 1}: these are the first {frames} of 10" in report


def test_a_window_sees_the_end_of_the_one_before(plain_studio):
    """Clean, at every step: LTX knows how noisy each frame is."""
    from comfy.patcher_extension import WrappersMP

    seen = []

    def look(executor, x, *args, **kwargs):
        seen.append(x)
        return executor(x, *args, **kwargs)

    model = plain_studio.model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    out = plain_studio.long(method="extend", model=model, overlap=2, cfg=1.0)[0]["samples"]
    for window, begin in enumerate((2, 4, 6), 1):
        for x in seen[window * STEPS : (window + 1) * STEPS]:
            # The frame before the window and the two that are shared.
            assert x.shape[2] == 1 + WINDOW
            assert torch.allclose(
                plain_studio.model.model.process_latent_out(x[:, :, :3]), out[:, :, begin - 1 : begin + 2], atol=1e-5
            )


@pytest.mark.parametrize("fault", [nan, interrupt], ids=["nan", "interrupt"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_finished_is_kept(sound_studio, flawed, method, fault):
    import comfy.model_management

    at = STEPS + 1 if method == "extend" else 1
    for step in range(at, at + 2):
        model = flawed(sound_studio.model, step, fault)
        out, clean, _, report = sound_studio.long(method=method, model=model, denoise=1.0)
        video, audio = tiny_case.parts(out["samples"])
        frames = 4 if method == "extend" else FRAMES
        assert (video.shape[2], audio.shape[2]) == (frames, 3 * frames) and video.isfinite().all()
        assert ("first 4 of 10" if method == "extend" else "the last step that was finished") in report
        assert ("Interrupted" if fault is interrupt else "NaN or Inf in step") in report
        assert same(clean, clean)
    with pytest.raises((comfy.model_management.InterruptProcessingException, RuntimeError)):
        sound_studio.long(method=method, model=flawed(sound_studio.model, at, fault), keep=False)
    with pytest.raises((comfy.model_management.InterruptProcessingException, RuntimeError)):
        sound_studio.long(method=method, model=flawed(sound_studio.model, 0, fault))
    assert same(sound_studio.long(method=method)[0], sound_studio.long(method=method)[0]), "nothing is left behind"


def test_a_mask_is_cut_with_its_clip(pack, inference, flawed):
    studio = LongStudio(pack, CASES["LTX-2 guide"])
    model = flawed(studio.model, STEPS, nan)
    latent = latent_of(studio.case, filled=True)
    out = studio.long(latent, method="extend", model=model)[0]
    video, guide = tiny_case.parts(out["samples"])[0], tiny_case.parts(latent["samples"])[0][:, :, -1]
    assert video.shape[2] == out["noise_mask"].shape[2] == 4 + 1
    assert torch.allclose(video[:, :, -1], guide, atol=1e-5), "the guide stays at the end"


@pytest.mark.parametrize("method", METHODS)
def test_less_memory_means_smaller_windows(sound_studio, bar, method):
    seen = []
    model = short_of_memory(sound_studio.model, 6, seen)
    out, _, _, report = sound_studio.long(method=method, model=model, window=FRAMES, overlap=2)
    assert tiny_case.parts(out["samples"])[0].shape[2] == FRAMES
    assert "Out of memory: windows of 7 latent frames instead of 10." in report
    assert "Out of memory: windows of 5 latent frames instead of 7." in report
    assert max(seen[-STEPS:]) <= 6, "5 and the frame before them"
    values = [value for value, _, _ in bar]
    assert values == sorted(set(values)) and bar[-1][:2] == (bar[-1][1],) * 2
    if method == "extend":
        # 5 of 10 frames, then 3 more in each window, which sees 2 of those before.
        assert {total for _, total, _ in bar} == {3 * STEPS}


@pytest.mark.parametrize("method", METHODS)
def test_no_memory_for_the_smallest_window(plain_studio, method):
    with pytest.raises(torch.cuda.OutOfMemoryError, match="even in windows of 2 latent frames"):
        plain_studio.long(method=method, model=short_of_memory(plain_studio.model, 1))


@pytest.mark.parametrize("method", METHODS)
def test_the_bar_moves_with_every_window(sound_studio, bar, method):
    sound_studio.long(method=method)
    values = [value for value, _, _ in bar]
    assert values == sorted(values) and set(values) == set(range(1, 3 * STEPS + 1))
    assert {total for _, total, _ in bar} == {3 * STEPS}


@pytest.mark.parametrize("method", METHODS)
def test_as_many_frames_as_text_channels(plain_studio, method):
    latent = {"samples": torch.zeros(1, 128, plain_studio.case.text[-1], 4, 5)}
    assert plain_studio.long(latent, method=method)[0]["samples"].isfinite().all()


def test_previews_show_the_window_at_work(plain_studio, bar, previews, monkeypatch):
    monkeypatch.setattr(plain_studio.pack.nodes.runs.progress, "SHARE", 1.0)
    plain_studio.long(method="extend")
    last = [bar[window * STEPS - 1][2][1].tobytes() for window in (1, 2, 3)]
    assert len(set(last)) == 3


def test_what_cannot_be(pack, plain_studio, monkeypatch):
    with pytest.raises(ValueError, match="cannot cut guide frames of this model"):
        LongStudio(pack, CASES["LTX guides"]).long()
    monkeypatch.setattr(pack.nodes.host.window_handler, "cuts_sound", lambda model: False)
    with pytest.raises(ValueError, match="the sound of this model cannot be cut into windows"):
        LongStudio(pack, minimax.CASES[0]).long()
    with pytest.raises(ValueError, match="overlap: 4 must be less than the window's 4"):
        plain_studio.long(overlap=4)
    windowed = plain_studio.model.clone()
    windowed.model_options["context_handler"] = object()
    with pytest.raises(ValueError, match="context windows of its own"):
        plain_studio.long(model=windowed)
