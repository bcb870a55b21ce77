"""All private contact with ComfyUI: clone the model, chain the override, publish sites and steps, count a run."""

from __future__ import annotations

import torch
from comfy.patcher_extension import CallbacksMP, WrappersMP

from ..attention import registry
from ..attention.bench import Bench
from ..attention.families import find as find_family
from ..attention.report import summarise
from ..attention.router import OFF, STEP, TALLY, Group, Router
from ..attention.rules import Rule
from ..attention.site import SITE, Site, Step
from ..attention.tally import Tally
from . import _runs

SLOT = "optimized_attention_override"
ROUTERS = "vattn.routers"
KEY = "video_attention"
# All of them are there on every model of ours, cleared ones too: LTX copies the options while torch.compile traces it,
# and the graph then looks each key up.
NOTHING_YET = {ROUTERS: Group(), OFF: Group(), TALLY: None, STEP: None}
HOOKS = "_video_attention_hooks"


def install(model, rule: Rule):
    """A clone of the MODEL `model` with one rule more; the input stays as it was."""
    registry.load_all()
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    found = options.get(SLOT)
    router = found.with_rule(rule) if isinstance(found, Router) else Router((rule,), found)
    options.update({**NOTHING_YET, **options, SLOT: router})
    options[ROUTERS] = Group(*(r for r in options[ROUTERS].members if r is not found), router)
    _attach(patched)
    return patched


def clear(model):
    """A clone of `model` without any rule of ours; overrides of other packs stay.

    The slot keeps a router that passes everything on: a graph compiled while a rule was there looks the slot up.
    """
    cleared = model.clone()
    options = cleared.model_options.get("transformer_options", {})
    found = options.get(SLOT)
    if isinstance(found, Router):
        options[SLOT] = Router((), found.previous)
    if ROUTERS in options:
        # One of ours may sit below another pack's override, out of reach but not out of sight.
        options[OFF] = Group(*options[OFF].members, *options[ROUTERS].members)
        options[ROUTERS] = Group()
    _detach(cleared)
    return cleared


def install_bench(model) -> tuple:
    """A clone of `model` whose attention calls are timed on every backend, and the Bench that keeps the trials."""
    registry.load_all()
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    options[SLOT] = bench = Bench(options.get(SLOT))
    _publish_sites_of(patched)
    return patched, bench


def _publish_sites_of(patcher) -> None:
    # Not injections: a clone of an injected model believes that it is injected too, and never is.
    for kind, callback in ((CallbacksMP.ON_PRE_RUN, publish_sites), (CallbacksMP.ON_CLEANUP, remove_sites)):
        patcher.remove_callbacks_with_key(kind, KEY)
        patcher.add_callback_with_key(kind, KEY, callback)


def _attach(patcher) -> None:
    _detach(patcher)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, count_run)
    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, publish_step)
    patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, note_grid)
    _publish_sites_of(patcher)


def _detach(patcher) -> None:
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.PREDICT_NOISE, WrappersMP.DIFFUSION_MODEL):
        patcher.remove_wrappers_with_key(kind, KEY)
    for kind in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
        patcher.remove_callbacks_with_key(kind, KEY)


def count_run(executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
    """OUTER_SAMPLE wrapper: a fresh Tally for this run, its Report kept under the latent it gives."""
    guider = executor.class_obj
    model = type(guider.model_patcher.model.diffusion_model).__name__
    tally = Tally(model, steps=max(0, len(sigmas) - 1))
    # The guider's options are this run's own copy; the model's cached ones must not change.
    guider.model_options["transformer_options"][TALLY] = tally
    samples = executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
    _note_what_is_missing(tally, guider.model_options["transformer_options"], model)
    _runs.remember(samples, summarise(tally))
    return samples


def _note_what_is_missing(tally: Tally, options: dict, model: str) -> None:
    if not tally.records and isinstance(options.get(SLOT), Router):
        tally.notes.append(
            "No attention call came through: this model class is out of reach, or torch.compile keeps a graph that it "
            "made without Video Attention Backend. Restart ComfyUI with the node before torch.compile."
        )
    elif not tally.records:
        tally.notes.append(
            "Another node set its own attention after Video Attention Backend and passed nothing on: "
            "place Video Attention Backend last."
        )
    if find_family(model) is None:
        tally.notes.append(f"{model} is no family this pack knows: roles are told by token counts, blocks are unknown.")


def publish_step(executor, x, timestep, model_options, seed=None):
    """PREDICT_NOISE wrapper: which rules cover this step. Reads the noise level once a step, only if a rule asks."""
    options = model_options.get("transformer_options", {})
    routers = options[ROUTERS].members if ROUTERS in options else ()
    if all(rule.always for router in routers for rule in router.rules):
        return executor(x, timestep, model_options, seed)
    sigma = float(timestep.max())
    to_sigma = executor.class_obj.inner_model.model_sampling.percent_to_sigma
    active = {r: tuple(_covers(rule, sigma, to_sigma) for rule in r.rules) for r in routers}
    step = Step(*_position(options.get("sample_sigmas"), sigma), sigma, active)
    model_options = {**model_options, "transformer_options": {**options, STEP: step}}
    return executor(x, timestep, model_options, seed)


def _covers(rule: Rule, sigma: float, to_sigma) -> bool:
    # A step that lies right on a bound begins there. Schedulers and percent_to_sigma round differently.
    sigma *= 1 - 1e-4
    begun = rule.start <= 0.0 or sigma <= float(to_sigma(rule.start))
    return begun and (rule.end >= 1.0 or sigma > float(to_sigma(rule.end)))


def _position(sigmas: torch.Tensor | None, sigma: float) -> tuple[int, int]:
    if sigmas is None or len(sigmas) < 2:
        return 0, 0
    # Samplers with sub-steps evaluate between two sigmas: those belong to the step they started in.
    reached = (sigmas[:-1] >= sigma - 1e-6).sum().item()
    return max(0, reached - 1), len(sigmas) - 1


def note_grid(executor, x, *args, **kwargs):
    """DIFFUSION_MODEL wrapper: the token grid of this run, for the report."""
    family = find_family(type(executor.class_obj).__name__)
    options = kwargs.get("transformer_options") or next((a for a in args if isinstance(a, dict) and TALLY in a), {})
    tally = options.get(TALLY)
    if family is not None and tally is not None and tally.grid is None:
        tally.grid = family.grid(x)
    return executor(x, *args, **kwargs)


def publish_sites(patcher) -> None:
    """ON_PRE_RUN: every attention module of a known family tells its role and block while this clone is sampled."""
    remove_sites(patcher)
    model = patcher.model.diffusion_model
    family = find_family(type(model).__name__)
    if family is None:
        return
    hooks = []
    for module, role, block in family.modules(model):
        hooks.append(module.register_forward_pre_hook(_announce(Site(family.name, role, block)), with_kwargs=True))
    setattr(model, HOOKS, hooks)


def remove_sites(patcher) -> None:
    """ON_CLEANUP, after errors and interrupts too: undoes publish_sites, also twice."""
    model = patcher.model.diffusion_model
    for hook in getattr(model, HOOKS, ()):
        hook.remove()
    if hasattr(model, HOOKS):
        delattr(model, HOOKS)


def _announce(site: Site):
    # Traced, the copy would tie a compiled graph to every key of today's options: KeyError once one is gone.
    @torch.compiler.disable
    def hook(module, args, kwargs):
        options = kwargs.get("transformer_options")
        if options is None:
            return None
        return args, {**kwargs, "transformer_options": {**options, SITE: site}}

    return hook
