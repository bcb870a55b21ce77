"""Samplings with forecasts on tiny models, and what became of each evaluation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import torch
from tiny.case import parts, prompt

# Any error is let through, so that what runs is known before.
PLAIN = {"warm_up": 2, "last": 1, "in_a_row": 1, "max_error": 0.0, "degree": 1}


def forecast(pack, model, **settings):
    """A clone of a MODEL with forecasts by these settings over PLAIN."""
    host = pack.nodes.host.forecast
    return host.install(model, replace(host.ForecastSettings(), **{**PLAIN, **settings}))


@contextmanager
def records(pack):
    """Collects the Reports of the runs that end in it, which nobody else learns of."""
    with pack.nodes.host.run_history.aside() as found:
        yield found


def sampled(pack, model, case, sampler="euler", steps=8, cfg=1.0, seed=1, scheduler="simple", **more):
    """What the host's sampler gives of a case, and the Report of the run.

    sampler: a name, or a SAMPLER.
    """
    import comfy.sample
    import comfy.samplers

    latent = case.latent()
    noise = comfy.sample.prepare_noise(latent, seed)
    settings = {key: value for key, value in case.options.items() if key not in ("cfg", "steps")}
    made = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    with records(pack) as found:
        out = comfy.sample.sample_custom(
            model, noise, case.options.get("cfg", cfg), made, sigmas, prompt(case, 1), prompt(case, 2), latent,
            disable_pbar=True, seed=seed, **{**settings, **more},
        )  # fmt: skip
    return out, found.report


def made_steps(report) -> list[int]:
    """The steps with a forecast, from 1."""
    return [one.step for one in report.timeline if one.forecast]


def far(out, truth) -> float:
    """The largest relative L2 of the parts of a latent."""
    return max(((a - b).norm() / b.norm()).item() for a, b in zip(parts(out), parts(truth), strict=True))


def equal(out, truth) -> bool:
    """Bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(parts(out), parts(truth), strict=True))


def twice():
    """A SAMPLER that evaluates the very same twice, and the list of what the model answered."""
    import comfy.samplers

    answers = []

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        for step in range(2):
            answers.append(model(x, sigmas[0] * x.new_ones([x.shape[0]]), **(extra_args or {})))
            callback({"i": step, "denoised": answers[-1], "x": x})
        return answers[-1]

    return comfy.samplers.KSAMPLER(sample), answers
