"""The rules of this pack on a MODEL: added to a clone, read again, cleared."""

from __future__ import annotations

from dataclasses import replace

from comfy.ldm.modules import attention as host_attention
from comfy.patcher_extension import WrappersMP

from ...attention.backends import registry
from ...attention.core import allocation_record
from ...attention.core.site import CALLER, Caller
from ...attention.inspect import info
from ...attention.plans.bench import Bench
from ...attention.routing.compiled_op import SLOT
from ...attention.routing.router import Router
from ...attention.routing.rules import ERROR, Rule
from ...attention.routing.step_context import CONTEXT, StepContext
from . import (
    askers,
    bypass_watch,
    counted_runs,
    forecast_run,
    hooks,
    interruption,
    kept_memory,
    memory_estimate,
    model_family,
    reuse_memory,
    site_hooks,
    token_ranks,
)
from .bypass_watch import ROUTERS, RouterGroup, is_compiled

try:
    from comfy.model_prefetch import pause_malloc_graph
except ImportError:  # hosts before 0.34 record nothing
    pass
else:
    allocation_record.set_pause(pause_malloc_graph)

KEY = "video_attention"


def add_rule(model, rule: Rule):
    """Adds a rule to a clone of the MODEL `model`; the input stays as it was.

    Raises ValueError when nothing of the model can be reached and the rule wants errors.
    """
    family = model_family.family_of(model)
    if rule.on_unsupported == ERROR and family is not None and family.unsupported:
        raise ValueError(f"model: {family.name} is not supported: {family.unsupported}. Bypass this node.")
    registry.load_all()
    rule = rule if rule.asker else replace(rule, asker=askers.executing())
    return _routed(model, lambda found: found.with_rule(rule), (rule,))


def count(model):
    """Counts what runs in the samplings of a clone of the MODEL `model`, by whatever rules it has, also by none."""
    return _routed(model, lambda found: found, ())


def timed(model):
    """Measures every attention call of a clone of the MODEL `model`, by the same rules or, without any, by the host."""

    def changed(found: Router) -> Router:
        rules = tuple(replace(rule, timing=True) for rule in found.rules) or host
        return Router(rules, found.previous, found.host)

    host = (Rule(registry.HOST, timing=True),)
    return _routed(model, changed, host)


def _routed(model, changed, rules: tuple[Rule, ...]):
    """Puts a router into the slot of a clone of the MODEL `model`.

    changed: the Router found there -> ours; where none is, one with `rules` is made.
    """
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    found = options.get(SLOT)
    host = host_attention.optimized_attention
    router = changed(found) if isinstance(found, Router) else Router(rules, found, host, counts=True)
    options[SLOT] = router
    options.setdefault(CONTEXT, StepContext())
    options.setdefault(CALLER, Caller())
    options[ROUTERS] = options.get(ROUTERS, RouterGroup()).replaced(found, router)
    memory_estimate.tell(patched, router.rules)
    _attach(patched)
    return patched


def add_rules(model, rules):
    """Adds rules to a clone of the MODEL `model`, the last one strongest; gives `model` itself without any."""
    for rule in rules:
        model = add_rule(model, rule)
    return model


def clear(model):
    """Takes every rule of ours off a clone of the MODEL `model`; overrides of other packs stay.

    Its slot is as it was before us, so the model costs what it costs without us. Only behind torch.compile it keeps a
    router that passes everything on: a graph made while a rule was there looks the slot up.
    """
    cleared = model.clone()
    options = cleared.model_options.get("transformer_options", {})
    found, routers = options.get(SLOT), options.get(ROUTERS)
    _detach(cleared)
    hooks.take_off(cleared, forecast_run.KEY)
    token_ranks.detach(cleared)
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
        options[ROUTERS] = RouterGroup()
    return cleared


def _put_back(options: dict, previous) -> None:
    """Fills the slot with what was there before us, or empties it and forgets all that was for us."""
    if previous is not None:
        options[SLOT] = previous
        return
    for key in (SLOT, CONTEXT, CALLER, ROUTERS):
        options.pop(key, None)


def pattern_of(model):
    """Finds the pattern of the last Video Attention Sparse Pattern on this MODEL; None without one."""
    return next((rule.shape.pattern for rule in reversed(rules_of(model)) if rule.shape), None)


def status(model, rule: Rule | None = None) -> str:
    """Says in one line what is known of a MODEL, or why this rule covers none of its calls or cannot run them."""
    net, family = model.model.diffusion_model, model_family.family_of(model)
    return rule and (info.idle(net, family, rule) or cannot_run(model, rule)) or info.status(net, family)


def cannot_run(model, rule: Rule) -> str | None:
    """Says why the kernel that a rule names cannot run self-attention of a MODEL on this machine; None if it may."""
    if rule.kind or rule.backend in (registry.AUTO, registry.HOST):
        return None
    reason = registry.why_not(rule.backend, memory_estimate.usual_call(model))
    if reason is None:
        return None
    then = "The sampler will stop" if rule.on_unsupported == ERROR else "ComfyUI's own attention runs in its place"
    return f"{rule.backend} cannot run here: {reason}. {then}."


def add_bench(model) -> tuple:
    """Lets every backend be timed on the calls of a clone of `model`. Returns it and the Bench with the trials."""
    registry.load_all()
    return fill_slot(model, Bench)


def fill_slot(model, make) -> tuple:
    """Puts an override into the slot of a clone of the MODEL `model`, all of whose calls tell where they come from.

    make: (the override found, or None) -> ours.
    Returns the clone and what `make` gave.
    """
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    options[SLOT] = override = make(options.get(SLOT))
    site_hooks.attach(patched)
    return patched, override


def rules_of(model) -> tuple[Rule, ...]:
    """Lists the rules of ours on this MODEL, as far as they can be seen: not below another pack's override."""
    router = model.model_options.get("transformer_options", {}).get(SLOT)
    return router.rules if isinstance(router, Router) else ()


def _attach(patcher) -> None:
    wrappers = {
        WrappersMP.OUTER_SAMPLE: counted_runs.count_run,
        WrappersMP.PREPARE_SAMPLING: kept_memory.making_room(reuse_memory.kept),
        WrappersMP.PREDICT_NOISE: counted_runs.publish_step,
        WrappersMP.APPLY_MODEL: bypass_watch.look,
    }
    hooks.wrap(patcher, KEY, wrappers)
    site_hooks.attach(patcher)
    interruption.attach(patcher)


def _detach(patcher) -> None:
    hooks.take_off(patcher, KEY)
    site_hooks.detach(patcher)
    interruption.detach(patcher)
