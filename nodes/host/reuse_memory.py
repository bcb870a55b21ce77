"""Says what a MODEL keeps by a rule of reuse and what memory that takes, before it runs."""

from __future__ import annotations

from math import prod

from ...attention.core.site import AUDIO_SELF, AUDIO_VIDEO, AttentionSite
from ...attention.core.tokens import Tokens
from ...attention.forecast.memory import in_words
from ...attention.reuse.kept_output import bytes_of
from ...attention.reuse.store import MIB
from ...attention.routing.rules import Rule
from . import model_family
from .bypass_watch import ROUTERS, RouterGroup
from .token_ranks import COPIES

THOUSAND = 1000


def kept(patcher, samples, clips: int) -> int:
    """Finds the bytes that the rules of a MODEL keep on the GPU at most, as far as its tokens are known.

    samples: of the latent, on any device.
    clips: that are sampled at once, each prompt's counted.
    """
    routers = patcher.model_options.get("transformer_options", {}).get(ROUTERS, RouterGroup()).members
    rules = [rule for router in routers for rule in router.rules if rule.reuse is not None and not rule.reuse.offload]
    tokens = model_family.tokens_of_latent(patcher, samples) if rules else None
    if tokens is None or tokens.grid is None:
        return 0
    taken = {rule: _taken(patcher, rule, tokens, clips) for rule in rules}
    # What a rule keeps goes when it ends.
    return max(sum(size for rule, size in taken.items() if rule.start <= at.start < rule.end) for at in taken)


def _taken(patcher, rule: Rule, tokens: Tokens, clips: int) -> int:
    size, count = _sizes(patcher, rule, tokens)
    return min(rule.reuse.budget * MIB, size * count * clips) if rule.reuse.every > 1 else 0


def text(model, rule: Rule, tokens: Tokens | None = None) -> str:
    """Says in a few sentences what is kept, how long, and what memory that takes.

    rule: about reuse.
    tokens: layout of the clip, None where it is not known yet.
    """
    settings = rule.reuse
    where = "the computer's memory" if settings.offload else "the GPU's memory"
    lines = [
        f"Attends in one of {settings.every} steps and gives the same outputs in the others. Keeps at most "
        f"{settings.budget} MiB of them, in {where}."
    ]
    size, count = _sizes(model, rule, tokens)
    if not count:
        return "\n".join([*lines, "How much an output takes is known when the model runs."])
    known = tokens is not None and tokens.grid is not None
    clip = "this clip" if known else f"{THOUSAND} tokens"
    lines.append(
        f"For {clip} and each prompt: {in_words(size)} an output, {in_words(size * count)} for all {count} of a step"
        f"{_room(settings.budget * MIB, size, count) if known else ''}."
    )
    if model.get_additional_models_with_key(COPIES):
        lines.append("Where GPUs share the tokens out, each keeps its own part of that.")
    return "\n".join(lines)


def _room(budget: int, size: int, count: int) -> str:
    fitting = budget // size
    return "" if fitting >= count else f"; the budget has room for {fitting}"


def _sizes(model, rule: Rule, tokens: Tokens | None) -> tuple[int, int]:
    """Finds the bytes of one output of a prompt, and how many such calls a model call makes; 0 where that is not known.

    Calls whose queries are the video's: all have the clip's tokens.
    """
    net, family = model.model.diffusion_model, model_family.family_of(model)
    if family is None or family.unsupported:
        return 0, 0
    found = [
        family.heads_of(module)
        for module, role, block in family.sites(net)
        if role not in (AUDIO_SELF, AUDIO_VIDEO) and rule.covers(AttentionSite(family.name, role, block))
    ]
    if not found:
        return 0, 0
    heads, head_dim = found[0]
    length = prod(tokens.grid) if tokens is not None and tokens.grid is not None else THOUSAND
    # As the model computes, which may be finer than its weights are stored.
    itemsize = model.model.get_dtype_inference().itemsize
    return bytes_of(length, heads * head_dim, heads, itemsize, rule.reuse), len(found)
