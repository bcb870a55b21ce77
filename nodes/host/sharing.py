"""Which evaluations of a MODEL can share their tokens out among ranks, GPUs or machines."""

from __future__ import annotations

from ...attention.core.reason import Reason
from ...attention.core.tokens import BOTH, KEYS, SIDES
from ...attention.routing.compiled_op import OPTIONS, SLOT
from ...attention.routing.router import Router
from . import forecast_run, model_family, temporal_grafts, token_ranks
from .bypass_watch import ROUTERS, is_compiled

CACHE = "easycache"
# What is shared out first where there are several prompts.
PROMPTS_FIRST, TOKENS = SPLITS = ("prompts, then tokens", "tokens")


def never(patcher, ranks: int) -> str | None:
    """Says why no evaluation of a MODEL in a run can share its tokens out; None where some may.

    ranks: how many there are.
    """
    rule = token_ranks.rule_of(patcher)
    if isinstance(rule, Reason):
        return str(rule)
    heads = fewest_heads(patcher)
    if 0 < heads < ranks:
        return f"{ranks} are more than the {heads} heads of this model"
    if is_compiled(patcher):
        return "torch.compile has this model"
    return "trained temporal blocks see all tokens" if patcher.get_attachment(temporal_grafts.KEY) else None


def refusal(conds, options) -> str | None:
    """Says why one evaluation cannot share its tokens out; None where it can. The same on all ranks.

    conds, options: as CALC_COND_BATCH gets them.
    """
    told = options[OPTIONS]
    for why, holds in (
        ("another node's attention stands in front", not isinstance(told.get(SLOT), Router)),
        ("forecast steps are on this model", forecast_run.KEY in told),
        ("attention outputs are kept and given again", _reuses(told)),
        ("EasyCache or LazyCache may leave an evaluation out on one of them", CACHE in told),
        ("another node's patches see tokens by their number", told.get("patches") or told.get("patches_replace")),
        ("a ControlNet adds to tokens by their number", any("control" in one for cond in conds for one in cond or ())),
        ("several prompts share one picture", any(len(cond or ()) > 1 for cond in conds)),
        ("a prompt brings LoRAs of its own", any(one.get("hooks") for cond in conds for one in cond or ())),
    ):
        if holds:
            return why
    return None


def alone(conds, number: int) -> list:
    """Leaves one prompt of an evaluation and None in the places of the others."""
    return [cond if n == number else None for n, cond in enumerate(conds)]


def _reuses(told) -> bool:
    routers = told[ROUTERS].members if ROUTERS in told else ()
    return any(rule.reuse is not None for router in routers for rule in router.rules)


def fewest_heads(patcher) -> int:
    """Counts the heads of the module with the fewest among those that are traded for tokens; 0 where unknown."""
    row = model_family.row_of(patcher)
    sites = row.sites(patcher.model.diffusion_model)
    return min((row.heads_of(module)[0] for module, role, _ in sites if SIDES.get(role) in (BOTH, KEYS)), default=0)
