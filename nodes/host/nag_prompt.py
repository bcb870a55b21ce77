"""Normalised attention guidance at the host: the negative prompt goes through the model behind the prompt."""

from __future__ import annotations

import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import convert_cond

from ...attention.core.error_handling import try_twice
from ...attention.core.identity import KeepsIdentity
from ...attention.core.reason import Reason
from ...attention.families import find
from ...attention.guidance import nag
from ...attention.routing import compiled_op
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.router import Router
from ...attention.routing.rules import Rule
from ...attention.routing.step_context import CONTEXT, stats_of
from . import hooks, model_rules, prompt_names
from .hooks import Handle
from .token_ranks import RANK

KEY = "video_attention.nag"
# Keys in the host's transformer_options, between the guider and the model alone: {name of a positive prompt: Negative}
# of a step, and the names of the prompts of one call, as `cond_or_uncond` counts them.
NEGATIVES, NAMES = "vattn.negatives", "vattn.names"


class Negative(KeepsIdentity):
    """What goes behind a prompt.

    context: (1 or B, L, C).
    mask: (1 or B, L); None where all tokens are seen.
    """

    def __init__(self, context: torch.Tensor, mask: torch.Tensor | None):
        self.context, self.mask = context, mask


def install_negative(model, rule: Rule, negative):
    """Adds a NAG rule to a clone of the MODEL `model`.

    negative: CONDITIONING; None for the sampler's own negative prompt.
    """
    patched = model_rules.add_rule(model, rule)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: _Prompt(negative),
        WrappersMP.PREDICT_NOISE: publish_negative,
        WrappersMP.CALC_COND_BATCH: publish_names,
    }
    hooks.wrap(patched, KEY, wrappers)
    hooks.during_runs(patched, KEY, watch_prompt)
    return patched


class _Prompt(KeepsIdentity):
    """Wraps OUTER_SAMPLE: the host prepares one prompt more for the model, unless it is None."""

    def __init__(self, negative):
        self.negative = negative

    def __call__(self, executor, *args, **kwargs):
        if self.negative is not None:
            executor.class_obj.conds[KEY] = convert_cond(self.negative)
        # Inside what may call the model for one prompt after the other.
        hooks.move_innermost(executor.class_obj, WrappersMP.CALC_COND_BATCH, KEY)
        return executor(*args, **kwargs)


def publish_negative(executor, x, timestep, model_options, seed=None):
    """Wraps PREDICT_NOISE: gives each positive prompt its prepared negative one."""
    conds = getattr(executor.class_obj, "conds", {})
    options = model_options.get(OPTIONS, {})
    prompt_names.name_prompts(conds)
    found = {
        name: _prepared(conds.get(KEY) or conds.get(prompt_names.opposite(name, conds)))
        for name in conds
        if prompt_names.is_positive(name)
    }
    found = {name: negative for name, negative in found.items() if negative is not None}
    step_context = options.get(CONTEXT)
    if not found:
        if step_context is not None and step_context.stats is not None:
            step_context.stats.notes.append(_nothing_to_guide(conds))
        return executor(x, timestep, model_options, seed)
    return executor(x, timestep, {**model_options, OPTIONS: {**options, NEGATIVES: found}}, seed)


def _nothing_to_guide(conds) -> str:
    if any(map(prompt_names.is_positive, conds)):
        return f"{nag.NAME} had no negative prompt: connect one to its node."
    names = ", ".join(name for name in conds if name != KEY)
    return f"{nag.NAME} is off: none of this guider's prompts ({names}) is a positive one by its name."


def _prepared(conds) -> Negative | None:
    for each in conds or ():
        ready = each.get("model_conds", {})
        if "c_crossattn" in ready:
            mask = ready.get("attention_mask")
            return Negative(ready["c_crossattn"].cond, None if mask is None else mask.cond)
    return None


def publish_names(executor, model, conds, x_in, timestep, model_options):
    """Wraps CALC_COND_BATCH: says whose prompts these are. Names and no uuids: caches and windows give new ones."""
    options = model_options.get(OPTIONS, {})
    if NEGATIVES in options:
        names = tuple(map(prompt_names.name_of, conds))
        model_options = {**model_options, OPTIONS: {**options, NAMES: names}}
    return executor(model, conds, x_in, timestep, model_options)


def watch_prompt(patcher) -> tuple[Handle, ...]:
    """Hooks a model, whose prompt grows while it runs, before the hook of the sites, which keeps the options."""
    return (hooks.hook_before(patcher.model.diffusion_model, lengthen, first=True),)


@compiled_op.eagerly
def lengthen(module, args, kwargs):
    """Puts the negative prompt's tokens behind the prompt's before the model runs, and notes where they meet."""
    options = kwargs.get(OPTIONS) or {}
    if NEGATIVES not in options:
        return None
    # The model itself must not see these: torch.compile would tie its graph to them.
    plain = {key: value for key, value in options.items() if key not in (NEGATIVES, NAMES)}
    negatives, names = options[NEGATIVES], options.get(NAMES, ())
    called = [names[number] if number < len(names) else None for number in options.get("cond_or_uncond", ())]
    own, context = {**kwargs, OPTIONS: plain}, kwargs.get("context")
    device = None if context is None else context.device
    made = try_twice(lambda: _lengthened(own, negatives, called), device, RANK not in plain)
    if isinstance(made, Reason):
        stats = stats_of(plain)
        if stats is not None:
            stats.leave(nag.NAME, "step", made)
        return args, own
    if made.get("context") is not context:
        # What would take the prompt for want of its own goes on with what it would have taken.
        aliases = find(type(module).__name__).prompt_aliases
        made |= {name: context for name in aliases if kwargs.get(name) is None}
    return args, made


def _lengthened(kwargs: dict, negatives: dict, called: list) -> dict:
    """Lengthens a model's inputs for prompts of these names, where one of them is to be guided.

    negatives: {name of a positive prompt: Negative}.
    called: names of the prompts of this call; None for one without.
    """
    options, context = kwargs[OPTIONS], kwargs.get("context")
    step_context, router = options.get(CONTEXT), options.get(model_rules.SLOT)
    positive = tuple(name in negatives for name in called)
    if step_context is None or context is None or not any(positive):
        return kwargs
    if isinstance(router, Router) and not _wanted(router, step_context):
        return kwargs
    # A negative prompt's rows get any: nobody reads them.
    told = [negatives.get(name) or next(iter(negatives.values())) for name in called]
    reason = _refuses(told, context, router)
    if reason is not None:
        if step_context.stats is not None:
            step_context.stats.notes.append(f"{nag.NAME} is off: {reason}.")
        return kwargs
    parts = [_rows(each.context.to(context), context.shape[0] // len(told)) for each in told]
    behind, mask = torch.cat(parts), kwargs.get("attention_mask")
    prompt_pair = nag.PromptPair(context.shape[1], behind.shape[1], positive, context.shape[0])
    if mask is not None or any(each.mask is not None for each in told):
        first = _mask_of(mask, context, None)
        second = [_mask_of(each.mask, part, mask) for each, part in zip(told, parts, strict=True)]
        kwargs = {**kwargs, "attention_mask": torch.cat([first, torch.cat(second).to(first)], dim=-1)}
    lengthened = {"context": torch.cat([context, behind], dim=1)}
    return {**kwargs, **lengthened, OPTIONS: {**options, CONTEXT: step_context.but(prompt_pair=prompt_pair)}}


def _wanted(router: Router, step_context) -> bool:
    """Tells whether a rule of ours guides attention to the prompt in this step."""
    active = zip(router.rules, step_context.active_of(router))
    return router not in step_context.off and any(on and rule.kind == "nag" for rule, on in active)


def _refuses(told: list[Negative], context: torch.Tensor, router) -> Reason | None:
    """Gives the Reason why these prompts cannot be guided; None where they can."""
    if not isinstance(router, Router):
        return Reason("another node set its own attention behind it: place Video Attention's nodes last")
    for each in told:
        if each.context.ndim != 3 or each.context.shape[-1] != context.shape[-1]:
            return Reason(
                f"the negative prompt has the shape {tuple(each.context.shape)}, the prompt {tuple(context.shape)}"
            )
    lengths = {each.context.shape[1] for each in told}
    if len(lengths) > 1:
        return Reason(
            f"prompts of one call have negative ones of different lengths: {', '.join(map(str, sorted(lengths)))}"
        )
    return None


def _rows(t: torch.Tensor, rows: int) -> torch.Tensor:
    """Repeats a tensor (1 or B, ...) for `rows` rows of a batch."""
    return t if t.shape[0] == rows else t[:1].expand(rows, *t.shape[1:])


def _mask_of(mask, context: torch.Tensor, like) -> torch.Tensor:
    """Gives the mask of a prompt; where it has none, one under which all its tokens are seen, of the kind of `like`."""
    if mask is not None:
        return _rows(mask.to(context.device), context.shape[0])
    added = like is not None and like.is_floating_point()
    return torch.full(
        context.shape[:2], 0 if added else 1, dtype=like.dtype if added else torch.long, device=context.device
    )
