"""All private contact with ComfyUI's patcher: clone the model, chain the override, publish steps, count a run."""

from __future__ import annotations

from comfy.ldm.modules import attention as host_attention
from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import WrappersMP
from comfy.utils import unpack_latents

from ...attention.backends import registry
from ...attention.core import allocation_record
from ...attention.core.site import CALLER, GUESSED, Caller
from ...attention.inspect import info
from ...attention.inspect.report import summarise
from ...attention.plans.bench import Bench
from ...attention.routing import fallback, host_kernel
from ...attention.routing.compiled_op import SLOT
from ...attention.routing.guarded_run import evaluate
from ...attention.routing.router import Router
from ...attention.routing.rules import ERROR, Rule
from ...attention.routing.run_stats import RunStats
from ...attention.routing.step_context import CONTEXT, StepContext
from . import (
    bypass_watch,
    interruption,
    live_report,
    memory_estimate,
    model_family,
    run_history,
    site_hooks,
    token_order,
)
from .bypass_watch import ROUTERS, Group, is_compiled
from .latent import NotFinite

try:
    from comfy.model_prefetch import pause_malloc_graph
except ImportError:  # hosts before 0.34 record nothing
    pass
else:
    allocation_record.set_pause(pause_malloc_graph)

KEY = "video_attention"
fallback.let_through(InterruptProcessingException)


def add_rule(model, rule: Rule):
    """A clone of the MODEL `model` with one rule more; the input stays as it was.

    ValueError when nothing of the model can be reached and the rule wants errors.
    """
    family = model_family.family_of(model)
    if rule.on_unsupported == ERROR and family is not None and family.unsupported:
        raise ValueError(f"model: {family.name} is not supported: {family.unsupported}. Bypass this node.")
    registry.load_all()
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    found = options.get(SLOT)
    host = host_attention.optimized_attention
    router = found.with_rule(rule) if isinstance(found, Router) else Router((rule,), found, host)
    options[SLOT] = router
    options.setdefault(CONTEXT, StepContext())
    options.setdefault(CALLER, Caller())
    options[ROUTERS] = options.get(ROUTERS, Group()).replaced(found, router)
    memory_estimate.tell(patched, router.rules)
    _attach(patched)
    return patched


def add_rules(model, rules):
    """A clone of `model` with all these rules, the last one strongest; `model` itself without any."""
    for rule in rules:
        model = add_rule(model, rule)
    return model


def clear(model):
    """A clone of `model` without any rule of ours; overrides of other packs stay.

    Its slot is as it was before us, so the model costs what it costs without us. Only behind torch.compile it keeps a
    router that passes everything on: a graph made while a rule was there looks the slot up.
    """
    cleared = model.clone()
    options = cleared.model_options.get("transformer_options", {})
    found, routers = options.get(SLOT), options.get(ROUTERS)
    _detach(cleared)
    memory_estimate.forget(cleared)
    compiled = is_compiled(cleared)
    if isinstance(found, Router) and compiled:
        options[SLOT] = Router((), found.previous, found.host)
        # It runs what the model's file names for a module, so it must know the module.
        site_hooks.attach(cleared)
    elif isinstance(found, Router):
        _put_back(options, found.previous)
    if routers is not None and (compiled or SLOT in options):
        # One of ours may sit below another pack's override, out of reach but not out of sight.
        options[CONTEXT] = StepContext(off=(*options[CONTEXT].off, *routers.members))
        options[ROUTERS] = Group()
    return cleared


def _put_back(options: dict, previous) -> None:
    """Fills the slot with what was there before us, or empties it and forgets all that was for us."""
    if previous is not None:
        options[SLOT] = previous
        return
    for key in (SLOT, CONTEXT, CALLER, ROUTERS):
        options.pop(key, None)


def pattern_of(model):
    """The pattern of the last Video Attention Pattern on this MODEL, None without one."""
    return next((rule.shape.pattern for rule in reversed(rules_of(model)) if rule.shape), None)


def status(model, rule: Rule | None = None) -> str:
    """One line about a MODEL for the node that patches it, or that this rule covers none of its calls."""
    net, family = model.model.diffusion_model, model_family.family_of(model)
    return rule and info.idle(net, family, rule) or info.status(net, family)


def install_bench(model) -> tuple:
    """A clone of `model` whose attention calls are timed on every backend, and the Bench that keeps the trials."""
    return install_override(model, Bench)


def install_override(model, make) -> tuple:
    """A clone of `model` with make(the override found) in its slot and every call announced, and what `make` gave."""
    registry.load_all()
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    options[SLOT] = override = make(options.get(SLOT))
    site_hooks.attach(patched)
    return patched, override


def rules_of(model) -> tuple[Rule, ...]:
    """The rules of ours on this MODEL, as far as they can be seen: not below another pack's override."""
    router = model.model_options.get("transformer_options", {}).get(SLOT)
    return router.rules if isinstance(router, Router) else ()


def _attach(patcher) -> None:
    _detach(patcher)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, count_run)
    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, publish_step)
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, bypass_watch.look)
    site_hooks.attach(patcher)
    token_order.attach(patcher)
    interruption.attach(patcher)


def _detach(patcher) -> None:
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE, WrappersMP.APPLY_MODEL):
        patcher.remove_wrappers_with_key(kind, KEY)
    site_hooks.detach(patcher)
    token_order.detach(patcher)
    interruption.detach(patcher)


def count_run(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, *args, **kwargs):
    """OUTER_SAMPLE wrapper: a fresh RunStats for this run, told at each step; its Report kept under its latent."""
    guider = executor.class_obj
    model = type(guider.model_patcher.model.diffusion_model).__name__
    stats = RunStats(model, steps=max(0, len(sigmas) - 1))
    # The guider's options are this run's own copy; the model's cached ones must not change.
    options = guider.model_options["transformer_options"]
    options[CONTEXT] = stats.context.but(off=options[CONTEXT].off)
    stats.at_start, stats.compiled = options.get(SLOT), is_compiled(guider.model_patcher)
    stats.patterned = tuple(rule for router in options[ROUTERS].members for rule in router.rules if rule.shape)
    told = live_report.teller(stats, callback)
    try:
        samples = executor(noise, latent_image, sampler, sigmas, denoise_mask, told, *args, **kwargs)
    except (InterruptProcessingException, NotFinite):
        # Video Attention Long Sampler goes on with what there is of it.
        stats.notes.append("A run was stopped before its end.")
        run_history.remember([], summarise(stats))
        raise
    patcher = guider.model_patcher
    stats.notes += bypass_watch.missing(stats, options, model_family.family_of(patcher), patcher.model.diffusion_model)
    _note_what_is_hidden(stats, patcher)
    _note_what_is_not_finite(stats, samples)
    # Video and sound come as one tensor here.
    shapes = kwargs.get("latent_shapes") or ()
    run_history.remember(unpack_latents(samples, shapes) if len(shapes) > 1 else [samples], summarise(stats))
    return samples


def _note_what_is_hidden(stats: RunStats, model) -> None:
    """Calls of no announced module: the kernel that the model's file names for it, if it does, could not be run."""
    names = dict.fromkeys(
        host_kernel.name_of(h.function) for h in site_hooks.holders(model).values() if h.function is not None
    )
    count = sum(decision.calls for _, decision in stats.whole() if decision.site in GUESSED.values())
    if names and count:
        stats.notes.append(
            f"{count} attention calls did not tell which module made them: where no rule took them they ran ComfyUI's "
            f"own attention, even if the model's file names {' or '.join(names)} for that module."
        )


def _note_what_is_not_finite(stats: RunStats, samples) -> None:
    finite = samples.isfinite()
    if not finite.all():
        wrong = 1.0 - finite.float().mean().item()
        share = f"{wrong:.0%}" if wrong >= 0.005 else "less than 1 %"
        stats.notes.append(
            f"NaN or Inf in the latent that this run gave: {share} of its values. Try another kernel, or the guard at "
            "`every call`, in Video Attention Backend."
        )


def publish_step(executor, x, timestep, model_options, seed=None):
    """PREDICT_NOISE wrapper: which rules cover this step. Reads the noise level once a step, only if a rule asks."""
    options = model_options.get("transformer_options", {})
    stats = options[CONTEXT].stats if CONTEXT in options else None
    if stats is not None:
        stats.begin()
    routers = options[ROUTERS].members if ROUTERS in options else ()
    if all(rule.always for router in routers for rule in router.rules):
        return _evaluate(stats, executor, x, timestep, model_options, seed)
    sigma = float(timestep.max())
    to_sigma = executor.class_obj.inner_model.model_sampling.percent_to_sigma
    sigmas = options.get("sample_sigmas", timestep).tolist()
    active = tuple((r, tuple(covers(rule, sigma, to_sigma, sigmas) for rule in r.rules)) for r in routers)
    options = {**options, CONTEXT: options[CONTEXT].but(active=active)}
    return _evaluate(stats, executor, x, timestep, {**model_options, "transformer_options": options}, seed)


def _evaluate(stats: RunStats | None, executor, *args):
    return executor(*args) if stats is None else evaluate(stats, lambda: executor(*args))


def covers(rule: Rule, sigma: float, to_sigma, sigmas) -> bool:
    """Whether a rule covers the step at `sigma`. sigmas: (steps + 1) noise levels of the run."""
    if rule.spared != (0, 0) and rule.spares(sigma * (1 + 1e-4), sigmas):
        return False
    # A step that lies right on a bound begins there. Schedulers and percent_to_sigma round differently.
    sigma *= 1 - 1e-4
    begun = rule.start <= 0.0 or sigma <= float(to_sigma(rule.start))
    return begun and (rule.end >= 1.0 or sigma > float(to_sigma(rule.end)))
