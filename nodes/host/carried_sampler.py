"""One sampler over two models: what it draws and remembers goes on over the switch.

A host's sampler is one function that calls the model and keeps its random numbers and its earlier steps in local
variables. So it runs once, beside the two runs of the models: the first run answers its calls until the second model is
due, the second run answers the others.
"""

from __future__ import annotations

import inspect
import math
from contextlib import suppress
from dataclasses import dataclass

import comfy.samplers
import comfy.utils
import torch

from ...attention.sampling.side_thread import ENDED, SideThread
from .latent import parts_of

HOOKS = "sampler_post_cfg_function"
# Samplers compute the noise level of a step anew: it may differ by rounding from the schedule's.
NEAR = 1e-4
# What CFG++ samplers read beside the prediction.
READ = ("denoised", "cond_denoised", "uncond_denoised")


@dataclass(frozen=True)
class _Call:
    """A call of the model that a sampler waits for."""

    latent: torch.Tensor
    sigma: torch.Tensor
    args: dict


class CarriedSampler:
    """Makes a SAMPLER for each of two models, which are one sampling. A context: nothing of it outlives it.

    sampler: the host's SAMPLER.
    sigmas: (steps + 1,) noise levels of the whole run.
    switch: how many steps begin with the first model; what corrects such a step is its as well.
    first: the SAMPLER of the first model.
    second: the SAMPLER of the second one, to be used after it.
    due: whether the sampler waits for the second model.
    given: what the first run gave; to be set before the second.
    """

    def __init__(self, sampler, sigmas: torch.Tensor, switch: int):
        self._sampler, self._sigmas, self._level = sampler, sigmas, float(sigmas[switch])
        self._work, self._pending, self._calls, self._marks = None, None, 0, 0
        self._plan, self._options, self.given = [], {}, None
        self.first, self.second = (
            comfy.samplers.KSAMPLER(part, sampler.extra_options, sampler.inpaint_options)
            for part in (self._first, self._second)
        )

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        if self._work is not None:
            self._work.__exit__(*error)

    @property
    def due(self) -> bool:
        """Tells whether the sampler waits for the second model."""
        return self._pending is not None

    def _first(self, model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        self._options = extra_args.get("model_options", {})
        # UniPC writes into the noise levels, CFG++ samplers into the arguments.
        whole, given, guider = self._sigmas.to(x.device, copy=True), dict(extra_args), model.inner_model
        # Samplers read here what they want to know of the model, after this run too.
        guide = _Over(guider, model_patcher=guider.model_patcher, inner_model=guider.inner_model)
        self._plan = rehearse(self._sampler, self._sigmas, self._level, guide)

        def work(ask):
            called, function = _Called(model, guide, ask), self._sampler.sampler_function
            return function(called, x, whole, extra_args=given, callback=ask, disable=disable, **options), whole[-1]

        self._work = SideThread(work)
        return self._serve(lambda asked: model(asked.latent, asked.sigma, **asked.args), sigmas, callback, True)

    def _second(self, model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        shift = self._marks

        def shifted(info):
            callback({**info, "i": max(0, info["i"] - shift)})

        def evaluate(asked):
            options = extra_args.get("model_options", {})
            options = _with_added(options, asked.args.get("model_options", {}), self._options)
            return model(asked.latent, asked.sigma, **{**asked.args, **extra_args, "model_options": options})

        # Rounded as between two samplers of the host: methods that remember nothing give the same, bit for bit.
        self._pending.latent.copy_(_noisy_latent(model.inner_model.inner_model, self.given, sigmas[0]))
        self._work.answer(evaluate(self._pending))
        self._pending = None
        return self._serve(evaluate, sigmas, shifted, False)

    def _serve(self, evaluate, sigmas, callback, first: bool):
        """Answers what the sampler asks; gives its result, or its latent once the second model is due."""
        while (asked := self._work.question()) is not ENDED:
            if not isinstance(asked, _Call):
                self._marks += 1
                self._work.answer(callback(asked))
                continue
            if first and self._is_due(float(asked.sigma.max())):
                self._pending = asked
                return asked.latent
            self._calls += 1
            self._work.answer(evaluate(asked))
        made, last = self._work.result
        # The host scales the result by the last noise level of this very tensor.
        sigmas[-1] = last
        return made

    def _is_due(self, sigma: float) -> bool:
        """Tells whether the next call is the second model's: as rehearsed, or by its noise level where a sampler, as an
        adaptive one, comes to others than it did there.
        """
        planned = self._plan[self._calls] if self._calls < len(self._plan) else None
        if planned is not None and math.isclose(planned[0], sigma, rel_tol=NEAR):
            return planned[1]
        return sigma <= self._level * (1 + NEAR)


def rehearse(sampler, sigmas: torch.Tensor, level: float, guide) -> list[tuple[float, bool]]:
    """Finds, for each call of the model that a sampler makes, its noise level and whether the second model is due.

    sampler: the host's SAMPLER.
    sigmas: (steps + 1,) noise levels of the run.
    level: the noise level at which the second model takes over; it is due once a step at or below it had begun.
    guide: what samplers read as the model's guider.
    Found with a latent of one number; empty where the sampler does not run with it. A step begins with the call that
    its callback follows: the other calls of a step may look ahead.
    """
    levels, began = [], []

    def model(x, sigma, model_options=None, **args):
        levels.append(float(sigma.max()))
        for hook in (model_options or {}).get(HOOKS, []):
            hook({name: torch.zeros_like(x) for name in READ})
        return torch.zeros_like(x)

    def callback(info):
        if levels and levels[-1] <= level * (1 + NEAR):
            began.append(len(levels) - 1)

    called = _Called(None, guide, lambda asked: model(asked.latent, asked.sigma, **asked.args))
    function, x = sampler.sampler_function, torch.ones(1, 1, 1, 1, 1)
    # Nothing is drawn that a sampling would draw, nor from the generator of the process.
    draws = "noise_sampler" in inspect.signature(function).parameters
    silent = {"noise_sampler": lambda *levels: torch.zeros_like(x)} if draws else {}
    options = {"disable": True, **silent, **sampler.extra_options}
    given = {"seed": 0, "model_options": {}, "denoise_mask": None}
    with suppress(Exception), torch.random.fork_rng(devices=[]):
        function(called, x, sigmas.to("cpu", torch.float32, copy=True), extra_args=given, callback=callback, **options)
    at = min(began, default=len(levels))
    return [(sigma, number >= at) for number, sigma in enumerate(levels)] if began else []


def _with_added(options: dict, asked: dict, before: dict) -> dict:
    """Adds to the options of the run at hand what the sampler itself had put into those of the first run, `before`."""
    added = [hook for hook in asked.get(HOOKS, []) if hook not in before.get(HOOKS, [])]
    new = {name: value for name, value in asked.items() if name not in before and name != HOOKS}
    return {**options, **new, **({HOOKS: [*options.get(HOOKS, []), *added]} if added else {})}


def _noisy_latent(base, samples, sigma: torch.Tensor) -> torch.Tensor:
    """Makes what a sampler gets at noise level `sigma` in a run that begins with the noisy output of another run.

    base: the host's model.
    samples: that output; sound and video are packed into one tensor.
    """
    parts = parts_of(samples)
    packed = comfy.utils.pack_latents(parts)[0] if len(parts) > 1 else samples
    start = base.process_latent_in(packed.to(device=sigma.device, dtype=torch.float32))
    return base.model_sampling.noise_scaling(sigma, torch.zeros_like(start), start)


class _Over:
    """Lays some attributes over those of another object."""

    def __init__(self, under, **over):
        self._under = under
        vars(self).update(over)

    def __getattr__(self, name):
        return getattr(self._under, name)


class _Called(_Over):
    """Asks for each prediction where a sampler calls its model."""

    def __init__(self, model, guide, ask):
        super().__init__(model, inner_model=guide)
        self._ask = ask

    def __call__(self, x, sigma, **args):
        return self._ask(_Call(x, sigma, args))
