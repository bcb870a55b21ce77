"""Finds out what a sampler will evaluate, by letting it run with a latent of one number and no model."""

from __future__ import annotations

import inspect
from contextlib import suppress
from dataclasses import dataclass

import torch

HOOKS = "sampler_post_cfg_function"
# Samplers compute the noise level of a step anew: it may differ by rounding from the schedule's.
NEAR = 1e-4
# What CFG++ samplers read beside the prediction.
READ = ("denoised", "cond_denoised", "uncond_denoised")


@dataclass(frozen=True)
class SamplerCall:
    """A call of the model that a sampler waits for."""

    latent: torch.Tensor
    sigma: torch.Tensor
    args: dict


@dataclass(frozen=True)
class RehearsedCall:
    """A call of the model that a sampler will make.

    sigma: its noise level.
    step: of the sampler, from 0.
    stage: number of the call in its step, from 0.
    begins: whether its step's callback follows it: the other calls of a step may look ahead.
    """

    sigma: float
    step: int
    stage: int
    begins: bool


@dataclass(frozen=True)
class Rehearsal:
    """What a sampler will do.

    calls: of the model; none where the sampler does not run with a latent of one number.
    noisy: whether it adds noise on the way.
    """

    calls: tuple[RehearsedCall, ...] = ()
    noisy: bool = False


def rehearse(sampler, sigmas: torch.Tensor, guide) -> Rehearsal:
    """Finds what a sampler will evaluate. Nothing is drawn that a sampling would draw.

    sampler: the host's SAMPLER.
    sigmas: (steps + 1,) noise levels of the run.
    guide: what samplers read as the model's guider.
    """
    (levels, began, latents), (_, _, others) = (_run(sampler, sigmas, guide, noise) for noise in (0, 1))
    # Some draw noise and let it count nothing.
    return Rehearsal(_calls(levels, began), latents != others)


def _run(sampler, sigmas: torch.Tensor, guide, noise: int) -> tuple[list[float], set[int], list[float]]:
    """Runs a sampler with a latent of one number: gives the noise levels of its calls, which of them a callback
    followed, and the latents.

    noise: what is drawn, or with what the process's generator begins, which is put back.
    """
    levels, latents, began = [], [], set()

    def model(asked):
        levels.append(float(asked.sigma.max()))
        latents.append(float(asked.latent))
        for hook in asked.args.get("model_options", {}).get(HOOKS, []):
            hook({name: torch.zeros_like(asked.latent) for name in READ})
        return torch.zeros_like(asked.latent)

    def callback(info):
        if levels:
            began.add(len(levels) - 1)

    function, x = sampler.sampler_function, torch.ones(1, 1, 1, 1, 1)
    draws = "noise_sampler" in inspect.signature(function).parameters
    drawn = {"noise_sampler": lambda *levels: torch.full_like(x, noise)} if draws else {}
    options = {"disable": True, **drawn, **sampler.extra_options}
    given = {"seed": noise, "model_options": {}, "denoise_mask": None}
    of_run = sigmas.to("cpu", torch.float32, copy=True)
    with suppress(Exception), torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise)
        function(Called(None, guide, model), x, of_run, extra_args=given, callback=callback, **options)
    return levels, began, latents


def _calls(levels: list[float], began: set[int]) -> tuple[RehearsedCall, ...]:
    """Puts calls into steps: each begins with the call that its callback follows."""
    found, step, stage = [], -1, 0
    for number, sigma in enumerate(levels if began else ()):
        begins = number in began
        step, stage = (step + 1, 0) if begins else (max(step, 0), stage + 1 if step >= 0 else stage)
        found.append(RehearsedCall(sigma, step, stage, begins))
    return tuple(found)


class Over:
    """Lays some attributes over those of another object."""

    def __init__(self, under, **over):
        self._under = under
        vars(self).update(over)

    def __getattr__(self, name):
        return getattr(self._under, name)


class Called(Over):
    """Asks for each prediction where a sampler calls its model."""

    def __init__(self, model, guide, ask):
        super().__init__(model, inner_model=guide)
        self._ask = ask

    def __call__(self, x, sigma, **args):
        return self._ask(SamplerCall(x, sigma, args))
