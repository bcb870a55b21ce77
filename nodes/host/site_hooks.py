"""Tells every attention call of a known family where it comes from, by hooks that live as long as one sampling run."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import MethodType

import torch

from ...attention.core.site import CALLER, SITE, AttentionSite, Caller, SiteTag
from ...attention.families.spec import Family
from ...attention.inspect.site_watch import SiteWatch
from ...attention.routing import compiled_op
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.step_context import CONTEXT, IDLE
from . import hooks, model_family, reuse_run, site_tags
from .hooks import Handle
from .site_tags import TAG, options_of, position, tell

KEY = "video_attention.sites"
# Newer hosts keep in it the function that a model's file names for the module around it.
OWN = "comfy_attention"


def attach(patcher) -> None:
    """Lets the attention calls of a MODEL tell where they come from while it is sampled."""
    hooks.during_runs(patcher, KEY, publish)


def detach(patcher) -> None:
    """Undoes attach."""
    hooks.take_off(patcher, KEY)


def publish(patcher) -> Iterator[Handle]:
    """Hooks the model, every attention module that its family or the model's file names, and the blocks around them."""
    compiled_op.begin(None)
    yield Handle(lambda: compiled_op.begin(None))
    model = patcher.model.diffusion_model
    family = model_family.family_of(patcher)
    if family is not None and family.unsupported:
        family = None
    known = () if family is None else family.sites(model)
    sites = [
        (module, AttentionSite(family.name, role, block, getattr(module, OWN, None), heads=family.heads_of(module)[0]))
        for module, role, block in known
    ]
    reached, methods = {module for module, _ in sites}, () if family is None else family.forward_methods
    sites += [(module, AttentionSite("", "", None, own)) for module, own in owners(model) if module not in reached]
    if family is None and not sites:
        return
    watch = SiteWatch(model)
    yield Handle(lambda: site_tags.remove(model))
    for number, (module, site) in enumerate(sites):
        setattr(module, TAG, SiteTag(site, position(module.forward), torch.tensor(number), watch))
        yield hooks.hook_before(module, announce)
        yield hooks.hook_behind(module, fall_silent)
        for name in methods:
            if hasattr(module, name):
                yield announced_method(module, name)
    blocks = [module for module, site in sites if site.block is not None]
    between, handles = site_tags.tag_blocks(model, blocks, len(sites), watch)
    yield from handles
    yield lay_out(model, family, (*(site for _, site in sites), *between), watch)


def owners(model: torch.nn.Module) -> list[tuple[torch.nn.Module, object]]:
    """Finds the attention modules for which the model's file names a function that runs: (module, its holder)."""
    holders = ((module, getattr(module, OWN, None)) for module in model.modules())
    return [(module, own) for module, own in holders if getattr(own, "function", None) is not None]


def holders(patcher) -> dict[torch.nn.Module, object]:
    """Finds each module of a MODEL that has a holder of a function, and the holder: a LoRA's own until it is put in."""
    patches, found = patcher.object_patches, {}
    for name, module in patcher.model.diffusion_model.named_modules():
        holder = patches.get(f"diffusion_model.{name}.{OWN}", getattr(module, OWN, None))
        if hasattr(holder, "function"):
            found[module] = holder
    return found


def announced_method(module: torch.nn.Module, name: str) -> Handle:
    """Announces a method that the host calls directly, where no hook of the module hears of it, like the module."""
    found = vars(module).get(name)
    if found is None:
        answer = _telling(getattr(type(module), name))
    else:
        answer = _around(lambda module, *a, **kw: found(*a, **kw), found)
    return hooks.replace_method(module, name, MethodType(answer, module))


@functools.lru_cache(maxsize=32)
def _telling(function):
    # One for each class, so that what torch.compile made of it holds in the next run too.
    return _around(function, function, skipped=1)


def _around(function, signature, skipped: int = 0):
    where = position(signature, skipped)

    @functools.wraps(function)
    def telling(module, *args, **kwargs):
        tag = getattr(module, TAG, None)
        if tag is None:  # someone kept this method beyond our run
            return function(module, *args, **kwargs)
        changed = _announced(tag, where, args, kwargs)
        if changed is not None:
            args, kwargs = changed
        output = function(module, *args, **kwargs)
        _silenced(module, tag, where, args, kwargs)
        return output

    return telling


def announce(module, args, kwargs):
    """Lets the options of a tagged module's call carry its AttentionSite, before the module runs."""
    tag = getattr(module, TAG)
    return _announced(tag, tag.position, args, kwargs)


def _announced(tag: SiteTag, where: int | None, args, kwargs):
    options = options_of(where, args, kwargs)
    if torch.compiler.is_compiling():
        tell(options, tag)
        return None
    if tag.watch is not None:
        tag.watch.enter(tag)
    if options is None:
        return None
    options = {**options, SITE: tag.site}
    if kwargs.get(OPTIONS) is not None:
        return args, {**kwargs, OPTIONS: options}
    return (*args[:where], options, *args[where + 1 :]), kwargs


def fall_silent(module, args, kwargs, output):
    """Takes the AttentionSite back behind a tagged module: what is called next must not have it."""
    tag = getattr(module, TAG)
    _silenced(module, tag, tag.position, args, kwargs)


def _silenced(module, tag: SiteTag, where: int | None, args, kwargs) -> None:
    options = options_of(where, args, kwargs)
    if torch.compiler.is_compiling():
        tell(options, tag.after)
    elif tag.watch is not None:
        tag.watch.leave(tag, module, options)


def lay_out(
    model: torch.nn.Module, family: Family | None, sites: tuple[AttentionSite, ...] = (), watch: SiteWatch | None = None
) -> Handle:
    """Hooks a diffusion model: the options of each of its calls say how the call's tokens are laid out.

    sites: all that its calls may come from, in the order of the tags' numbers.
    watch: what is told of each call's beginning.
    """

    @compiled_op.eagerly
    def hook(module, args, kwargs):
        options = kwargs.get(OPTIONS)
        if options is None or not args:
            return None
        tokens = None if family is None else model_family.tokens_of(family, module, args[0], kwargs)
        context = options.get(CONTEXT, IDLE).but(tokens=tokens)
        if context.stats is not None and tokens is not None:
            context.stats.saw(tokens.grid, _window(options))
        if context.stats is not None and context.perturbation is not None:
            context.stats.spend(context.perturbation.name, "model call")
        caller = options.get(CALLER)
        if caller is None or (sites and not caller.fresh):
            caller = Caller(fresh=True)
        caller.live = caller.live or bool(sites)
        caller.about = reuse_run.about(context, options) if caller.fresh else None
        if watch is not None:
            watch.begin(caller, context.stats)
        options = {**options, CONTEXT: context, CALLER: caller}
        if sites:
            compiled_op.begin(options, sites)
        return args, {**kwargs, OPTIONS: options}

    return hooks.hook_before(model, hook)


def _window(options) -> tuple[int, int] | None:
    """Finds the first and last latent frame of the context window that this model call is about."""
    frames = getattr(options.get("context_window"), "index_list", None)
    return (frames[0], frames[-1]) if frames else None
