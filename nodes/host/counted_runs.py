"""What wraps a sampling run and each of its steps: counting what runs, and which rules cover the step."""

from __future__ import annotations

from comfy.model_management import InterruptProcessingException
from comfy.utils import unpack_latents

from ...attention.core.error_handling import try_twice
from ...attention.core.peak_memory import RunPeak
from ...attention.core.site import GUESSED
from ...attention.inspect.report import summarise
from ...attention.routing import fallback, host_kernel
from ...attention.routing.compiled_op import SLOT
from ...attention.routing.guarded_run import evaluate
from ...attention.routing.rules import Rule
from ...attention.routing.run_stats import RunStats
from ...attention.routing.step_context import CONTEXT, stats_of
from . import askers, bypass_watch, live_report, model_family, reuse_run, run_history, site_hooks
from .bypass_watch import ROUTERS, is_compiled
from .latent import NotFinite

fallback.let_through(InterruptProcessingException)
# A step that lies right on a bound begins there. Schedulers and percent_to_sigma round differently.
ROUNDING = 1 - 1e-4


def count_run(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, *args, **kwargs):
    """Wraps OUTER_SAMPLE: gives the run fresh RunStats, told at each step, and keeps its Report under its latent."""
    guider = executor.class_obj
    model = type(guider.model_patcher.model.diffusion_model).__name__
    stats = RunStats(model, steps=max(0, len(sigmas) - 1))
    # The guider's options are this run's own copy; the model's cached ones must not change.
    options = guider.model_options["transformer_options"]
    options[CONTEXT] = stats.context.but(off=options[CONTEXT].off)
    _prepare(stats, options, guider.model_patcher)
    reuse_run.begin(stats, guider, sampler, sigmas)
    told = live_report.teller(stats, callback)
    try:
        with stats.memory:
            samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, told, *args, **kwargs)
    except (InterruptProcessingException, NotFinite) as stop:
        # Video Attention Long Video Sampler goes on with what there is of it.
        stats.notes.append("A run was stopped before its end.")
        run_history.remember([], summarise(stats))
        live_report.stopped(stats, "cancelled" if isinstance(stop, InterruptProcessingException) else "stopped by NaN")
        raise
    except BaseException:
        live_report.stopped(stats, "stopped by an error")
        raise
    finally:
        reuse_run.end(stats)
    stats.edges.end()
    patcher = guider.model_patcher
    stats.notes += bypass_watch.missing(stats, options, model_family.family_of(patcher), patcher.model.diffusion_model)
    _note_what_is_hidden(stats, patcher)
    looked = try_twice(lambda: _note_what_is_not_finite(stats, samples), samples.device)
    stats.notes += [f"The latent was not looked at for NaN or Inf: {looked}."] if looked else []
    # Video and sound come as one tensor here.
    shapes = kwargs.get("latent_shapes") or ()
    report = summarise(stats)
    run_history.remember(unpack_latents(samples, shapes) if len(shapes) > 1 else [samples], report)
    if not run_history.is_aside():
        live_report.finished(report, stats)
    return samples


def _prepare(stats: RunStats, options: dict, patcher) -> None:
    """Notes what is known of a run before its first step."""
    stats.find_asker = askers.finder()
    stats.at_start, stats.compiled = options.get(SLOT), is_compiled(patcher)
    stats.rules = tuple(rule for router in options[ROUTERS].members for rule in router.rules)
    stats.patterned = tuple(rule for rule in stats.rules if rule.shape)
    timed = any(rule.timing for rule in stats.rules)
    stats.memory = RunPeak(patcher.load_device if timed else None)


def _note_what_is_hidden(stats: RunStats, model) -> None:
    """Notes calls of no announced module: the kernel that the model's file names for it could not be run."""
    names = dict.fromkeys(
        host_kernel.name_of(h.function) for h in site_hooks.holders(model).values() if h.function is not None
    )
    count = sum(decision.calls for _, decision in stats.counted() if decision.site in GUESSED.values())
    if names and count:
        stats.notes.append(
            f"{count} attention calls did not tell which module made them: where no rule took them they ran ComfyUI's "
            f"own attention, even if the model's file names {' or '.join(names)} for that module."
        )


def _note_what_is_not_finite(stats: RunStats, samples) -> None:
    """Notes how much of a run's latent is NaN or Inf."""
    finite = samples.isfinite()
    if not finite.all():
        wrong = 1.0 - finite.float().mean().item()
        share = f"{wrong:.0%}" if wrong >= 0.005 else "less than 1 %"
        stats.notes.append(
            f"NaN or Inf in the latent that this run gave: {share} of its values. Try another kernel, or the guard at "
            "`every call`, in Video Attention Backend."
        )


def publish_step(executor, x, timestep, model_options, seed=None):
    """Wraps PREDICT_NOISE: says which rules cover this step. Reads the noise level once an evaluation, only if a rule
    asks."""
    options = model_options.get("transformer_options", {})
    stats = stats_of(options)
    if stats is not None:
        stats.begin()
    routers = options[ROUTERS].members if ROUTERS in options else ()
    reuse = None if stats is None else stats.reuse
    always = all(rule.always for router in routers for rule in router.rules)
    if always and reuse is None:
        return _evaluate(stats, executor, x, timestep, model_options, seed)
    sigma = float(timestep.max())
    to_sigma = executor.class_obj.inner_model.model_sampling.percent_to_sigma
    sigmas = options.get("sample_sigmas", timestep).tolist()
    active = tuple((r, tuple(stretch_of(rule, sigma, to_sigma, sigmas) for rule in r.rules)) for r in routers)
    if reuse is not None:
        reuse.begin(sigma, {rule for router, on in active for rule, here in zip(router.rules, on) if here})
    if not always:
        options = {**options, CONTEXT: options[CONTEXT].but(active=active)}
    return _evaluate(stats, executor, x, timestep, {**model_options, "transformer_options": options}, seed)


def _evaluate(stats: RunStats | None, executor, *args):
    return executor(*args) if stats is None else evaluate(stats, lambda: executor(*args))


def stretch_of(rule: Rule, sigma: float, to_sigma, sigmas) -> int:
    """Tells which of a rule's stretches a step is in, from 1, or 0 where the rule does not cover it.

    Arguments as of `covers`.
    """
    if not covers(rule, sigma, to_sigma, sigmas):
        return 0
    each = (rule.end - rule.start) / rule.stretches
    bounds = (rule.start + each * number for number in range(1, rule.stretches))
    return 1 + sum(sigma * ROUNDING <= float(to_sigma(bound)) for bound in bounds)


def covers(rule: Rule, sigma: float, to_sigma, sigmas) -> bool:
    """Tells whether a rule covers a step.

    sigma: the noise level that the step begins at.
    to_sigma: the model's percent_to_sigma.
    sigmas: (steps + 1) noise levels of the run.
    """
    if rule.spared != (0, 0) and rule.spares(sigma * (1 + 1e-4), sigmas):
        return False
    sigma *= ROUNDING
    begun = rule.start <= 0.0 or sigma <= float(to_sigma(rule.start))
    return begun and (rule.end >= 1.0 or sigma > float(to_sigma(rule.end)))
