"""Goes along with a sampling in which attention outputs are kept: what the sampler will evaluate, and for what."""

from __future__ import annotations

from ...attention.core.reason import Reason
from ...attention.reuse.run import About, ReuseRun
from ...attention.routing.run_stats import RunStats
from ...attention.routing.step_context import StepContext
from .forecast_sampler import most_in_a_row, original
from .rehearsal import Over, rehearse

UNKNOWN = Reason("the sampler did not run in a rehearsal, so that its steps are not known")


def begin(stats: RunStats, guider, sampler, sigmas) -> None:
    """Gives a run's RunStats what keeps outputs, where one of its rules asks for that."""
    if all(rule.reuse is None for rule in stats.rules):
        return
    patcher, sampler = guider.model_patcher, original(sampler)
    rehearsal = rehearse(sampler, sigmas, Over(guider, model_patcher=patcher, inner_model=patcher.model))
    most = most_in_a_row(sampler, rehearsal)
    refused = most if isinstance(most, Reason) else "" if rehearsal.calls else UNKNOWN
    calls = [(call.sigma, call.step) for call in rehearsal.calls]
    stats.reuse = ReuseRun(calls, None if isinstance(most, Reason) else most, refused)


def end(stats: RunStats) -> None:
    """Lets go of everything that a run kept."""
    if stats.reuse is not None:
        stats.reuse.clear()


def about(context: StepContext, options: dict) -> About | None:
    """Tells what a call of the model is about: nothing that is kept of another is given to it.

    context: of the call.
    options: the host's transformer_options of it.
    """
    reuse = None if context.stats is None else context.stats.reuse
    prompts = options.get("uuids")
    if reuse is None or not prompts:
        return None
    window = getattr(options.get("context_window"), "index_list", None)
    kinds = tuple(options.get("cond_or_uncond") or ())
    return reuse.about(tuple(prompts), kinds, tuple(window or ()), context.perturbation, context.tokens)
