"""A run found again by its latent alone, as in scripts, where there is no prompt; threads; what is forgotten."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny import case as tiny_case


@pytest.fixture(autouse=True)
def nothing_known(pack):
    pack.nodes.host.run_history._RUNS.clear()


def clip(lab, name, seed, kept=None, shape=(1, 128, 3, 3, 4), sampler="euler_ancestral", steps=2):
    """One run; kept: the frames that a mask keeps of one start, as image to video does."""
    import comfy.sample

    start = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    mask = torch.ones(1, 1, *shape[2:])
    if kept is not None:
        mask[:, :, kept] = 0.0
    noise = comfy.sample.prepare_noise(start, seed)
    positive, negative = lab.prompt
    return comfy.sample.sample(
        lab.backend(backend=name), noise, steps, 1.0, sampler, "simple", positive, negative, start,
        noise_mask=mask, disable_pbar=True, seed=seed,
    )  # fmt: skip


def used(lab, latent) -> set:
    return {row.used for row in lab.report(latent).rows}


def there_and_back(dtype):
    return lambda latent: latent.to(dtype).float()


CASTS = [torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16, there_and_back(torch.float16)]


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "lcm"])
@pytest.mark.parametrize("kept", [slice(0, 1), slice(0, 2), slice(1, 3)], ids=["first", "all but last", "last"])
def test_kept_frames_do_not_mix_runs(lab, kept, sampler):
    first, second = clip(lab, "sdpa", 1, kept, sampler=sampler), clip(lab, "reference", 2, kept, sampler=sampler)
    assert torch.allclose(first[:, :, kept], second[:, :, kept], atol=1e-3)
    for cast in CASTS:
        assert used(lab, cast(first)) == {"sdpa"} and used(lab, cast(second)) == {"reference"}


def test_clips_of_a_batch_that_differ_in_the_last_one(lab):
    first = clip(lab, "sdpa", 3, shape=(2, 128, 2, 3, 4))
    pack = lab.pack.nodes.host.run_history
    other = first.clone()
    other[1, -1, -1] += 3.0
    pack.remember([other], lab.report(clip(lab, "reference", 4)))
    assert used(lab, first) == {"sdpa"} and used(lab, other) == {"reference"}


@pytest.mark.parametrize("cast", [torch.Tensor.float, torch.Tensor.half])
def test_one_seed_on_two_exact_kernels(lab, cast):
    """The clips differ by 1e-6; cast to half they are nearly one, and still the right run is found."""
    first, second = clip(lab, "sdpa", 5), clip(lab, "reference", 5)
    assert 0 < lab.error(first, second) < 1e-4
    assert used(lab, cast(first)) == {"sdpa"} and used(lab, cast(second)) == {"reference"}


def test_nan_is_found_and_said(lab, pack):
    good = lab.sample(lab.backend(backend="sdpa"))
    broken = lab.model.clone()
    broken.set_model_unet_function_wrapper(lambda f, a: f(a["input"], a["timestep"], **a["c"]) * float("nan"))
    bad = lab.sample(lab.backend(broken, backend="reference"))
    assert bad.isnan().all() and used(lab, good) == {"sdpa"} and used(lab, bad) == {"reference"}
    text = pack.nodes.report.VideoAttentionReport.execute({"samples": bad}).args[1]
    assert "NaN or Inf in the latent that this run gave: 100% of its values." in text
    assert "NaN" not in pack.nodes.report.VideoAttentionReport.execute({"samples": good}).args[1]


def test_video_and_sound_are_found_together_and_alone(pack, inference):
    from studio import CASES, Studio, latent_of

    case = next(case for case in CASES if len(tiny_case.parts(case.latent())) > 1)
    studio, runs = Studio(pack, case), pack.nodes.host.run_history
    models = [
        pack.nodes.host.model_rules.add_rule(studio.model, pack.attention.routing.rules.Rule(name))
        for name in ("sdpa", "reference")
    ]
    clips = [studio.custom(latent_of(case), model=model, noise=seed)[0] for seed, model in enumerate(models)]
    for clip, name in zip(clips, ("sdpa", "reference")):
        for part in (clip["samples"], *tiny_case.parts(clip["samples"])):
            assert {row.used for row in runs.find(part).rows} == {name}


def test_another_latent_is_nobody_s(lab):
    latent = lab.sample(lab.backend())
    assert lab.report(latent + 1) is None and lab.report(latent[:, :, :1]) is None
    assert lab.report(torch.full_like(latent, float("nan"))) is None


def test_a_run_aside_is_seen_by_nobody_else(lab):
    runs = lab.pack.nodes.host.run_history
    before = len(runs.known())
    with runs.own() as outer:
        with runs.aside() as inner:
            latent = lab.sample(lab.backend())
        assert inner.report.calls == 16 and outer.report is None
        lab.sample(lab.backend(), seed=77)
        assert outer.report.calls == 16 and len(inner) == 1
    assert lab.report(latent) is None and len(runs.known()) == before + 1


def test_threads(lab):
    """Runs end in some threads while others look for theirs or are aside."""
    runs, known = lab.pack.nodes.host.run_history, lab.report(lab.sample(lab.backend()))
    wrong = []

    def work(number):
        try:
            for i in range(40):
                mine = torch.full((1, 1, 1, 1, 8), float(1 + number * 1000 + i)) + torch.arange(8)
                if number % 2:
                    with runs.aside() as own:
                        runs.remember([mine], known)
                    assert len(own) == 1
                else:
                    runs.remember([mine], known)
                    runs.find(mine)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(runs.known()) <= runs.MOST


def test_old_runs_are_forgotten(lab):
    runs, latent = lab.pack.nodes.host.run_history, lab.sample(lab.backend())
    known = lab.report(latent)
    for i in range(runs.EXECUTIONS):
        runs.remember([torch.full((1, 2, 2), float(i + 1))], known)
    assert lab.report(latent) is None and len(runs.known()) == runs.EXECUTIONS
