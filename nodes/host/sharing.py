"""Which evaluations of a MODEL can share their tokens out among ranks, GPUs or machines."""

from __future__ import annotations

from math import gcd, isclose

from ...attention.core.reason import Reason
from ...attention.core.tokens import BOTH, KEYS, SIDES
from ...attention.parallel.ring import inner_of
from ...attention.routing.compiled_op import OPTIONS, SLOT
from ...attention.routing.router import Router
from . import forecast_run, model_family, temporal_grafts, token_ranks
from .bypass_watch import is_compiled

CACHE = "easycache"
# What is shared out first where there are several prompts.
PROMPTS_FIRST, TOKENS = SPLITS = ("prompts, then tokens", "tokens")
# As TOKENS, but heads are traded inside a machine alone.
AROUND_MACHINES = "tokens, keys around machines"
MACHINE_SPLITS = (*SPLITS, AROUND_MACHINES)


def never(patcher) -> str | None:
    """Says why no evaluation of a MODEL in a run can share its tokens out; None where some may."""
    rule = token_ranks.rule_of(patcher)
    if isinstance(rule, Reason):
        return str(rule)
    if is_compiled(patcher):
        return "torch.compile has this model"
    return "trained temporal blocks see all tokens" if patcher.get_attachment(temporal_grafts.KEY) else None


def refusal(conds, options, forecasts: bool = False) -> str | None:
    """Says why one evaluation cannot share its tokens out; None where it can. The same on all ranks.

    conds, options: as CALC_COND_BATCH gets them.
    forecasts: whether one rank decides for all of them which evaluations are forecast.
    """
    told = options[OPTIONS]
    for why, holds in (
        ("another node's attention stands in front", not isinstance(told.get(SLOT), Router)),
        ("forecast steps are on this model", not forecasts and forecast_run.KEY in told),
        ("EasyCache or LazyCache may leave an evaluation out on one of them", CACHE in told),
        ("another node's patches see tokens by their number", told.get("patches") or told.get("patches_replace")),
        ("a ControlNet adds to tokens by their number", any("control" in one for cond in conds for one in cond or ())),
        ("several prompts share one picture", any(len(cond or ()) > 1 for cond in conds)),
        ("a prompt brings LoRAs of its own", any(one.get("hooks") for cond in conds for one in cond or ())),
    ):
        if holds:
            return why
    return None


def groups(ranks: int, prompts: int, split: str) -> int:
    """Counts the groups of ranks, each of which evaluates some of the prompts and shares their tokens out."""
    return gcd(ranks, prompts) if split == PROMPTS_FIRST else 1


def most_prompts(guider) -> int:
    """Counts the prompts that a guider evaluates at once, at most: at cfg 1 ComfyUI leaves the negative one out."""
    optimised = not guider.model_options.get("disable_cfg1_optimization", False)
    # Guiders of other nodes keep a list there, a number for each step.
    cfg = getattr(guider, "cfg", None)
    plain = isinstance(cfg, int | float) and isclose(cfg, 1.0) and set(guider.conds) <= {"positive", "negative"}
    return 1 if plain and optimised else len(guider.conds)


def sharers(patcher, conds, model_options, ranks: int, split: str, prompts: int) -> int:
    """Counts the ranks that share the attention of each evaluation of a run, at least; 1 where one may evaluate alone.

    Of more ranks than heads those that trade them: a kernel may want the keys of all others too, see parallel.ring.

    conds: name -> prompts, as PREPARE_SAMPLING gets them.
    ranks: how many there are.
    split: one of SPLITS.
    prompts: most that are evaluated at once.
    """
    if never(patcher) or refusal(list(conds.values()), model_options):
        return 1
    # An extra pass of guidance is about one prompt.
    every = range(1, prompts + 1)
    return min(inner_of(ranks // groups(ranks, count, split), fewest_heads(patcher) or ranks) for count in every)


def alone(conds, number: int) -> list:
    """Leaves one prompt of an evaluation and None in the places of the others."""
    return [cond if n == number else None for n, cond in enumerate(conds)]


def fewest_heads(patcher) -> int:
    """Counts the heads of the module with the fewest among those that are traded for tokens; 0 where unknown."""
    row = model_family.row_of(patcher)
    sites = row.sites(patcher.model.diffusion_model)
    return min((row.heads_of(module)[0] for module, role, _ in sites if SIDES.get(role) in (BOTH, KEYS)), default=0)
