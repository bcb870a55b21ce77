"""One sampler over two models: what it draws and remembers goes on over the switch.

A host's sampler is one function that calls the model and keeps its random numbers and its earlier steps in local
variables. So it runs once, beside the two runs of the models: the first run answers its calls until the second model is
due, the second run answers the others.
"""

from __future__ import annotations

import math

import comfy.samplers
import comfy.utils
import torch

from ...attention.sampling.side_thread import ENDED, SideThread
from .latent import parts_of
from .rehearsal import HOOKS, NEAR, Called, Over, SamplerCall, rehearse


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
        self.sampler, self._sigmas, self._level = sampler, sigmas, float(sigmas[switch])
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
        guide = Over(guider, model_patcher=guider.model_patcher, inner_model=guider.inner_model)
        self._plan = self._due_calls(rehearse(self.sampler, self._sigmas, guide))

        def work(ask):
            called, function = Called(model, guide, ask), self.sampler.sampler_function
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
            if not isinstance(asked, SamplerCall):
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

    def _due_calls(self, rehearsal) -> list[tuple[float, bool]]:
        """Finds, for each call, its noise level and whether the second model is due: once a step at or below its level
        had begun.
        """
        calls = rehearsal.calls
        begins = (n for n, call in enumerate(calls) if call.begins and call.sigma <= self._level * (1 + NEAR))
        at = next(begins, None)
        return [] if at is None else [(call.sigma, number >= at) for number, call in enumerate(calls)]

    def _is_due(self, sigma: float) -> bool:
        """Tells whether the next call is the second model's: as rehearsed, or by its noise level where a sampler, as an
        adaptive one, comes to others than it did there.
        """
        planned = self._plan[self._calls] if self._calls < len(self._plan) else None
        if planned is not None and math.isclose(planned[0], sigma, rel_tol=NEAR):
            return planned[1]
        return sigma <= self._level * (1 + NEAR)


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
