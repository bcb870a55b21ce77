"""Which steps of a sampling will be forecast, and which may go by kept outputs: what is known before it runs."""

from __future__ import annotations

from ...attention.core.reason import Reason
from ...attention.forecast.schedule import foresee
from ...attention.inspect.schedule import Foreseen
from . import forecast, model_rules
from .forecast_sampler import most_in_a_row
from .rehearsal import Over, rehearse
from .reuse_run import UNKNOWN


def of(model, sampler, sigmas) -> tuple[Foreseen, list[str]]:
    """Finds what will become of the steps of a MODEL's sampling; with a sentence for what will not be.

    sampler: the host's SAMPLER.
    sigmas: (steps + 1,) noise levels.
    """
    spans, rules = forecast.spans_of(model), model_rules.rules_of(model)
    keeps = any(rule.reuse is not None and rule.reuse.every > 1 for rule in rules)
    if not (spans or keeps) or len(sigmas) < 2:
        return Foreseen(), []
    # The sampling as a run will have it, with the shift of the MODEL.
    net = Over(model.model, model_sampling=model.get_model_object("model_sampling"))
    rehearsal = rehearse(sampler, sigmas, Over(model, model_patcher=model, inner_model=net))
    most, said = most_in_a_row(sampler, rehearsal), []
    if keeps and (why := most if isinstance(most, Reason) else not rehearsal.calls and UNKNOWN):
        said.append(f"Nothing is kept: {why}.")
    row = None if isinstance(most, Reason) else most
    found = Foreseen(most=0 if said else row)
    if not spans:
        return found, said
    why = forecast.refusal(model.model_options, rehearsal, most)
    if why:
        return found, [*said, f"Nothing is forecast: {why}."]
    settings = forecast.settings_at_steps(spans, model, rehearsal, sigmas)
    if len(settings) != len(sigmas) - 1:
        return found, [*said, "Which steps are forecast is known when it runs: this sampler takes steps of its own."]
    return Foreseen(foresee(settings, row), tuple(one.label for one in settings), found.most), said
