"""One way to sample, run again and again with different rules, and how far the latents are apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import comfy.model_management

from ...attention.backends import registry
from ...attention.core.gpu import widest
from ...attention.core.reference import relative_l2
from ...attention.forecast import ForecastSpan
from ...attention.plans.probe import block_name
from ...attention.routing.rules import Rule
from ..host import forecast, hooks, model_family, model_rules, run_history
from ..host.latent import parts_of
from . import sampling_job
from .sampling_job import Job

KEY = "video_attention.probe"


@dataclass
class Sampling:
    """Runs a Job again and again with different rules.

    known: {key: what was measured}; whoever keeps it can go on after an interrupt.
    others: more positive prompts, each a CONDITIONING; further seeds take them in turns with the job's own.
    show: called with done and total; None for nobody.
    done: steps that the bar shows as done.
    total: steps of the whole bar.
    """

    job: Job
    known: dict = field(default_factory=dict)
    show: Callable | None = None
    done: int = 0
    total: int = 1
    others: tuple = ()

    def run(self, rules: tuple[Rule, ...], more: int = 0, spans: tuple[ForecastSpan, ...] = ()) -> tuple:
        """Samples with these rules, every call timed. Returns the final latent and the Report.

        more: added to the job's seed, and which of the prompts.
        spans: parts of the sampling in which steps are forecast.
        """
        job = self.job
        model = model_rules.add_rules(job.model, (Rule(registry.HOST, timing=True), *rules))
        model = forecast.install_spans(model, spans) if spans else model
        noise = sampling_job.noise_of(job.latent, job.seed + more) if more else job.noise
        prompts = (job.positive, *self.others)
        job = replace(job, model=model, noise=noise, seed=job.seed + more, positive=prompts[more % len(prompts)])
        with run_history.aside() as runs:
            latent = sampling_job.run(job, self._on_step)
        return latent, runs.report

    def probe(self, make: Callable) -> None:
        """Samples once while a Probe measures, unless it has nothing left to do.

        make: (the override found, or None) -> Probe.
        """
        job = self.job
        registry.load_all()
        model, probe = model_rules.fill_slot(job.model, make)
        if probe.done:
            return self.advance(job.steps)
        levels = [float(sigma) for sigma in job.sigmas[:-1]]

        def tell_step(sigma: float) -> None:
            probe.step = next((i for i, level in enumerate(levels) if math.isclose(level, sigma, rel_tol=1e-4)), None)

        hooks.before_each_step(model, KEY, tell_step)
        modules = _block_modules(model, {block for _, block, _ in probe.wanted})
        with hooks.hooked({module: probe.hooks_of(block) for module, block in modules.items()}):
            sampling_job.run(replace(job, model=model), self._on_step)

    def once(self, key, measure: Callable):
        """Measures once: gives what measure(), one sampling, gives, or gave before an interrupt.

        key: under which it is known.
        """
        if key in self.known:
            self.advance(self.job.steps)
        else:
            self.known[key] = measure()
        return self.known[key]

    def advance(self, steps: int = 1) -> None:
        """Moves the bar by some steps."""
        self.done += steps
        if self.show is not None:
            self.show(self.done, max(self.done, self.total))

    def expect(self, samplings: int) -> None:
        """Expects so many samplings more from here, as far as one can tell."""
        self.total = self.done + samplings * self.job.steps

    def _on_step(self, step, x0, x, steps) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.advance()


def _block_modules(model, blocks: set[int]) -> dict:
    """Finds the modules of these blocks, each with its number: those around the attention modules of the family."""
    root = model.model.diffusion_model
    names, modules = {id(m): name for name, m in root.named_modules()}, dict(root.named_modules())
    found = {}
    for module, _, block in model_family.family_of(model).sites(root):
        name = block_name(names[id(module)])
        if block in blocks and name:
            found[modules[name]] = block
    return found


def distance(latent, exact) -> float:
    """Measures the relative L2 of a latent, over video and sound together; infinite when it is not finite."""
    error = size = 0.0
    for part, truth in zip(parts_of(latent), parts_of(exact)):
        whole = truth.to(widest(truth.device)).norm().item()
        error, size = error + (relative_l2(part, truth) * (whole or 1.0)) ** 2, size + whole**2
    far = math.sqrt(error / size) if size else math.sqrt(error)
    return far if math.isfinite(far) else math.inf
