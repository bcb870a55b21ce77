"""Long clips with the sound of MiniMax-H3 and of LTX-2: cut and joined by time, to the sample."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from long_studio import CASES, LongStudio
from sampling_nodes import METHODS
from studio import latent_of, same
from tiny import case as tiny_case
from tiny import minimax

# Of MiniMax-H3: 17 latent frames are 56 pictures at 24 a second, 93 samples at 40.
FRAMES, SAMPLES, WINDOW, OVERLAP = 17, 93, 7, 2
PICTURES = (0, *accumulate((1, 4, 4, 4, 4) * 3 + (1, 4)))
H3 = replace(minimax.CASES[0], latent=minimax.latents(FRAMES, 6, 8, SAMPLES))
LONG = {"window": WINDOW, "overlap": OVERLAP, "steps": 2, "cfg": 1.0}


@pytest.fixture
def studio(pack, inference):
    return LongStudio(pack, H3)


def sample_of(frame: int) -> int:
    """Where a latent frame begins in the sound."""
    return round(PICTURES[frame] / PICTURES[-1] * SAMPLES)


def spied(model) -> tuple:
    """A clone that writes down what the model is given: (video, sound, payload)."""
    from comfy.patcher_extension import WrappersMP

    clone, calls = model.clone(), []

    def look(executor, x, *args, minimax_payload=None, **kwargs):
        calls.append((x[0].clone(), x[1].clone(), minimax_payload))
        return executor(x, *args, minimax_payload=minimax_payload, **kwargs)

    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "look", look)
    return clone, calls


@pytest.mark.parametrize("method", METHODS)
def test_one_window_is_the_plain_sampler(studio, method):
    latent = latent_of(H3, filled=True)
    plain, long = (
        studio.sample(latent, steps=2, cfg=1.0),
        studio.long(latent, **{**LONG, "window": 17, "method": method}),
    )
    assert same(long[0], plain[0]) and same(long[1], plain[1]) and long[2] == 0.0


def test_each_window_is_given_its_video_and_its_sound(studio, pack):
    """The first step's latent is the noise: of a window's frames, and of the samples that last as long."""
    model, calls = spied(studio.model)
    studio.long(model=model, free_noise=False, **LONG)
    latent = {"samples": H3.latent()}
    video, sound = pack.nodes.runs.sampling_job.noise_of(latent, 7).unbind()
    spans = ((0, 7), (5, 12), (10, 17))
    for (seen, heard, _), (first, end) in zip(calls, spans, strict=False):
        assert torch.equal(seen, video[:, :, first:end])
        assert torch.equal(heard, sound[..., sample_of(first) : sample_of(end)]), (first, end)
    assert len(calls) == 6 and [sample_of(at) for at in (0, 5, 7, 10, 12, 17)] == [0, 28, 37, 56, 65, 93]


def separate(executor, model, conds, x, timestep, options):
    """Predicts every number by itself: what is around it, in whatever window, does not matter."""
    return [0.8 * x + 0.1 for _ in conds]


@pytest.mark.parametrize("name", ["H3", "LTX-2"])
@pytest.mark.parametrize("method", METHODS)
def test_windows_are_the_uncut_run_where_nothing_depends_on_its_neighbours(pack, inference, method, name):
    """Both methods beside one run without windows: every frame and every sample comes from its own place, once."""
    from comfy.patcher_extension import WrappersMP

    case = H3 if name == "H3" else CASES["LTX-2"]
    studio = LongStudio(pack, case)
    model, latent = studio.model.clone(), latent_of(case, filled=True)
    model.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "separate", separate)
    uncut = studio.sample(latent, model, steps=3)
    out = studio.long(latent, model=model, method=method, free_noise=False, **{**LONG, "steps": 3})
    for index in (0, 1):
        pairs = zip(*(tiny_case.parts(each[index]["samples"]) for each in (out, uncut)), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    assert "Seams of the sound" in out[3]


@pytest.mark.parametrize("method", METHODS)
def test_every_sample_is_sampled_and_sound_ends_with_its_clip(studio, method):
    out, clean, seam, report = studio.long(method=method, **LONG)
    for each in (out, clean):
        video, sound = each["samples"].unbind()
        assert video.shape[2] == FRAMES and sound.shape == (1, 32, 2, SAMPLES)
        assert video.isfinite().all() and sound.isfinite().all() and (sound.abs().amax(dim=(0, 1, 2)) > 0).all()
    assert "3 windows of 7 latent frames over 17, overlap 2. A window is 22 pictures, 0.92 s at 24 a second" in report
    assert "The overlap is 5 pictures, 0.21 s." in report and "Seams of the sound" in report and seam > 0


def test_what_is_finished_is_kept_with_its_sound(studio, pack):
    from comfy.patcher_extension import WrappersMP
    from studio import nan

    seen, model = iter(range(100)), studio.model.clone()

    def flaw(executor, *args):
        out = executor(*args)
        return nan(out) if next(seen) == 3 else out

    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "flaw", flaw)
    whole = studio.long(method="extend", **LONG)[0]["samples"].unbind()
    video, sound = studio.long(method="extend", model=model, **LONG)[0]["samples"].unbind()
    assert torch.equal(video, whole[0][:, :, :7]) and torch.equal(sound, whole[1][..., : sample_of(7)])


def test_noise_is_shared_in_time_alone(studio, pack):
    """FreeNoise: later frames and samples begin with earlier ones' noise; channels and sides stay apart."""
    model, calls = spied(studio.model)
    studio.long(model=model, free_noise=True, **LONG)
    video, sound = pack.nodes.runs.sampling_job.noise_of({"samples": H3.latent()}, 7).unbind()
    for part, given in ((calls[2][0], video), (calls[2][1].movedim(3, 2), sound.movedim(3, 2))):
        known = [given[:, :, at] for at in range(given.shape[2])]
        assert all(any(torch.equal(part[:, :, at], one) for one in known) for at in range(part.shape[2]))
        assert not torch.equal(part, given[:, :, -part.shape[2] :]), "in another order than they were drawn"


def test_a_first_and_a_last_picture_are_given_to_their_windows(pack, inference):
    frames = [{"resolved_frame_index": at, "latent": torch.zeros(1, 24, 1, 6, 8)} for at in (0, 55)]
    case = replace(H3, conditioning=lambda: {"minimax_keyframes": frames, "minimax_frame_count": 56})
    studio = LongStudio(pack, case)
    model, calls = spied(studio.model)
    assert studio.long(model=model, **LONG)[0]["samples"].unbind()[0].isfinite().all()
    given = [[one["resolved_frame_index"] for one in payload["keyframes"]] for _, _, payload in calls[:3]]
    assert given == [[0], [], [21]]
    references = LongStudio(pack, replace(H3, conditioning=minimax.references))
    model, calls = spied(references.model)
    references.long(model=model, **LONG)
    assert all(len(payload["refs"]) == 2 for _, _, payload in calls)


def test_windows_begin_with_a_single_picture(studio):
    """As the clip itself, so the overlap must leave 5 frames."""
    with pytest.raises(ValueError, match="overlap: 3 latent frames must be at least 5 fewer than the window's 7"):
        studio.long(**{**LONG, "overlap": 3})
    report = studio.long(**{**LONG, "window": 15, "overlap": -1})[3]
    assert "2 windows of 12 latent frames over 17, overlap 3." in report
