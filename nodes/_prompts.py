"""Normalised attention guidance at the host: the negative prompt goes through the model behind the prompt."""

from __future__ import annotations

import torch
from comfy.patcher_extension import WrappersMP
from comfy.sampler_helpers import convert_cond

from ..attention import opaque
from ..attention.families import find
from ..attention.guidance import nag
from ..attention.moment import MOMENT
from ..attention.router import Router
from ..attention.rules import Rule
from . import _host, _sites
from ._guidance import OPTIONS, detach, keep, unhook

KEY = "video_attention.nag"
NEGATIVE = "vattn.negative"


class Negative:
    """What goes behind the prompt. context: (1 or B, L, C); mask: (1 or B, L) or None; uuids: of positive prompts."""

    def __init__(self, context: torch.Tensor, mask: torch.Tensor | None, uuids: frozenset):
        self.context, self.mask, self.uuids = context, mask, uuids


def install_negative(model, rule: Rule, negative):
    """A clone of `model` with a NAG rule. negative: CONDITIONING, None for the sampler's own negative prompt."""
    patched = _host.install(model, rule)
    detach(patched, KEY)
    if negative is not None:
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _Prompt(negative))
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, publish_negative)
    _sites.in_runs(patched, KEY, watch_prompt, unhook)
    return patched


class _Prompt:
    """OUTER_SAMPLE wrapper: the host prepares one prompt more for the model."""

    def __init__(self, negative):
        self.negative = negative

    def __call__(self, executor, *args, **kwargs):
        executor.class_obj.conds[KEY] = convert_cond(self.negative)
        return executor(*args, **kwargs)


def publish_negative(executor, x, timestep, model_options, seed=None):
    """PREDICT_NOISE wrapper: the prepared negative prompt, and which prompts are positive ones."""
    conds = getattr(executor.class_obj, "conds", {})
    options = model_options.get(OPTIONS, {})
    found = _prepared(conds.get(KEY) or conds.get("negative") or ())
    moment = options.get(MOMENT)
    if found is None:
        if moment is not None and moment.tally is not None:
            moment.tally.notes.append(f"{nag.NAME} had no negative prompt: connect one to its node.")
        return executor(x, timestep, model_options, seed)
    uuids = frozenset(c["uuid"] for kind in ("positive", "middle") for c in conds.get(kind) or ())
    told = Negative(*found, uuids)
    return executor(x, timestep, {**model_options, OPTIONS: {**options, NEGATIVE: told}}, seed)


def _prepared(conds) -> tuple | None:
    for each in conds:
        ready = each.get("model_conds", {})
        if "c_crossattn" in ready:
            mask = ready.get("attention_mask")
            return ready["c_crossattn"].cond, None if mask is None else mask.cond
    return None


def watch_prompt(patcher) -> None:
    """ON_PRE_RUN: the model's prompt is lengthened while it runs. Before the sites' hook, which keeps the options."""
    model = patcher.model.diffusion_model
    keep(model, KEY, model.register_forward_pre_hook(lengthen, with_kwargs=True, prepend=True))


@opaque.eagerly
def lengthen(module, args, kwargs):
    """Pre-hook of the model: the negative prompt's tokens behind the prompt's, and a note of where they meet."""
    options, context = kwargs.get(OPTIONS) or {}, kwargs.get("context")
    told, moment, router = options.get(NEGATIVE), options.get(MOMENT), options.get(_host.SLOT)
    if told is None or moment is None or context is None:
        return None
    reason = _refuses(told, context, router)
    if reason is not None:
        if moment.tally is not None:
            moment.tally.notes.append(f"{nag.NAME} is off: {reason}.")
        return None
    if not any(on and rule.kind == "nag" for rule, on in zip(router.rules, moment.active_of(router))):
        return None
    # Extra passes predict the positive prompt alone, under names of their own.
    positive = tuple(moment.extra is not None or uuid in told.uuids for uuid in options.get("uuids", ()))
    if router in moment.off or not any(positive):
        return None
    behind = _for_batch(told.context, context, len(positive))
    doubled = nag.Doubled(context.shape[1], behind.shape[1], positive)
    mask = kwargs.get("attention_mask")
    if mask is not None or told.mask is not None:
        masks = [_mask_of(mask, context, None), _mask_of(told.mask, behind, mask, len(positive))]
        kwargs = {**kwargs, "attention_mask": torch.cat([masks[0], masks[1].to(masks[0])], dim=-1)}
    # What would take the prompt for want of its own goes on with what it would have taken.
    follows = find(type(module).__name__).follows
    return args, {
        **kwargs,
        **{name: context for name in follows if kwargs.get(name) is None},
        "context": torch.cat([context, behind], dim=1),
        OPTIONS: {**options, MOMENT: moment.but(doubled=doubled)},
    }


def _refuses(told: Negative, context: torch.Tensor, router) -> str | None:
    if not isinstance(router, Router):
        return "another node set its own attention behind it: place Video Attention's nodes last"
    if told.context.ndim != 3 or told.context.shape[-1] != context.shape[-1]:
        return f"the negative prompt has the shape {tuple(told.context.shape)}, the prompt {tuple(context.shape)}"
    return None


def _for_batch(t: torch.Tensor, like: torch.Tensor, chunks: int) -> torch.Tensor:
    """t: (1 or B, ...) for each of the chunks of `like`'s batch, on its device and in its dtype."""
    batch = like.shape[0] // chunks
    t = t.to(like) if t.is_floating_point() else t.to(like.device)
    t = t if t.shape[0] == batch else t[:1].expand(batch, *t.shape[1:])
    return t.repeat(chunks, *[1] * (t.ndim - 1))


def _mask_of(mask, context: torch.Tensor, like, chunks: int = 1) -> torch.Tensor:
    """The mask of a prompt; where it has none, one under which all its tokens are seen, of the kind of `like`."""
    if mask is not None:
        return _for_batch(mask, context, chunks) if mask.shape[0] != context.shape[0] else mask.to(context.device)
    added = like is not None and like.is_floating_point()
    return torch.full(context.shape[:2], 0 if added else 1, dtype=like.dtype if added else torch.long).to(
        context.device
    )
