"""Lets a MODEL's evaluations be forecast: wrappers of a run, of each evaluation and of each call of the model."""

from __future__ import annotations

import torch
from comfy.patcher_extension import WrappersMP

from ...attention.core.reason import Reason
from ...attention.forecast import ForecastSettings, ForecastSpan
from ...attention.forecast.schedule import settings_of_steps
from ...attention.routing.compiled_op import OPTIONS
from ...attention.routing.rules import Rule
from ...attention.routing.step_context import stats_of
from . import counted_runs, forecast_head, forecast_memory, hooks, kept_memory, model_family, model_rules
from .bypass_watch import POSITION, is_compiled
from .forecast_call import ModelCall
from .forecast_run import DENOISED, HEAD, KEY, VELOCITY, ForecastRun
from .forecast_sampler import most_in_a_row, original
from .rehearsal import Over, rehearse

# What the host's EasyCache and LazyCache put there.
CACHE = "easycache"
MASK = "denoise_mask_function"
CACHED = Reason("EasyCache or LazyCache is on this model and leaves evaluations out by itself")
MASKED = Reason("the mask changes from step to step (Differential Diffusion)")
UNKNOWN = Reason("the sampler did not run in a rehearsal, so that what it evaluates is not known")


def install(model, settings: ForecastSettings):
    """Lets evaluations of a clone of the MODEL `model` be forecast as `settings` say, whatever was asked for before.

    Raises as `install_spans` does.
    """
    return install_spans(model, (ForecastSpan(settings),))


def install_spans(model, spans: tuple[ForecastSpan, ...], budget: float = 0.0):
    """Lets evaluations of a clone of the MODEL `model` be forecast in parts of the sampling, whatever was before.

    spans: the last one that covers a step says how; in steps of none all is computed.
    budget: relative L2 of the final latent that the plan which they are of has to keep, 0 without one.
    Raises ValueError with a sentence where that cannot be.
    """
    if CACHE in model.model_options.get(OPTIONS, {}):
        raise ValueError(
            "model: EasyCache or LazyCache is on it, which leaves evaluations out as well, and neither would know of "
            "the other. Bypass that node or this one."
        )
    patched = model_rules.count(model)
    outer = _Outer(spans, budget)
    wrappers = {
        WrappersMP.OUTER_SAMPLE: outer,
        WrappersMP.PREPARE_SAMPLING: kept_memory.making_room(
            lambda patcher, samples, clips: forecast_memory.kept(patcher, spans, samples, clips)
        ),
        WrappersMP.PREDICT_NOISE: begin_evaluation,
        WrappersMP.APPLY_MODEL: answer_call,
    }
    hooks.wrap(patched, KEY, wrappers)
    hooks.during_runs(patched, KEY, _tap)
    return patched


def spans_of(model) -> tuple[ForecastSpan, ...]:
    """Lists what was installed on a MODEL."""
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    return found[0].spans if found else ()


def settings_of(model) -> ForecastSettings | None:
    """Finds what was installed on a MODEL: of several parts of the sampling the last; None without."""
    return next((span.settings for span in reversed(spans_of(model))), None)


def budget_of(model) -> float:
    """Finds the budget of the plan whose forecasts a MODEL has; 0 without."""
    found = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    return found[0].budget if found else 0.0


class _Outer:
    """Wraps OUTER_SAMPLE: a run of its own for each sampling, whatever becomes of it.

    spans: what is asked for.
    budget: as of install_spans.
    """

    def __init__(self, spans: tuple[ForecastSpan, ...], budget: float):
        self.spans, self.budget = spans, budget

    def __call__(self, executor, noise, latent_image, sampler, sigmas, *args, **kwargs):
        guider = executor.class_obj
        run = _begin_run(self.spans, guider, sampler, sigmas)
        # The guider's options are this run's own copy.
        guider.model_options[OPTIONS][KEY] = run
        try:
            return executor(noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            guider.model_options[OPTIONS].pop(KEY, None)
            run.history.forget()


def _begin_run(spans: tuple[ForecastSpan, ...], guider, sampler, sigmas) -> ForecastRun:
    """Finds out what the sampler will do, and whether anything of that can be forecast."""
    patcher, sampler = guider.model_patcher, original(sampler)
    guide = Over(guider, model_patcher=patcher, inner_model=patcher.model)
    rehearsal = rehearse(sampler, sigmas, guide)
    most = most_in_a_row(sampler, rehearsal)
    place = DENOISED if rehearsal.noisy else HEAD if _head_of(patcher) else VELOCITY
    run = ForecastRun(
        settings_at_steps(spans, patcher, rehearsal, sigmas),
        rehearsal,
        None if isinstance(most, Reason) else most,
        place,
    )
    # As a node would say it.
    run.record.settings = spans[0].settings if len(spans) == 1 and spans[0].whole else None
    if why := refusal(guider.model_options, rehearsal, most):
        run.refuse(why)
    return run


def refusal(model_options: dict, rehearsal, most: int | None | Reason) -> str:
    """Says why nothing of a run can be forecast; "" where something may be.

    model_options: of its model.
    rehearsal: of its sampler.
    most: as of most_in_a_row.
    """
    return next((why for why, holds in (
        (CACHED, CACHE in model_options.get(OPTIONS, {})),
        (MASKED, model_options.get(MASK) is not None),
        (most, isinstance(most, Reason)),
        (UNKNOWN, not rehearsal.calls),
    ) if holds), "")  # fmt: skip


def settings_at_steps(spans, patcher, rehearsal, sigmas) -> list[ForecastSettings]:
    """Lists what holds in each step that the sampler was seen to begin."""
    to_sigma, levels = patcher.get_model_object("model_sampling").percent_to_sigma, sigmas.tolist()
    begun = {call.step: call.sigma for call in reversed(rehearsal.calls)}

    def covers(span: ForecastSpan, step: int) -> bool:
        rule = Rule(start=span.start, end=span.end)
        return rule.always or counted_runs.covers(rule, begun[step], to_sigma, levels)

    return settings_of_steps(spans, len(begun), covers)


def _head_of(patcher):
    """Finds the place before the head of a MODEL; None where the family names none or torch.compile has the model."""
    head = model_family.row_of(patcher).head
    return None if isinstance(head, Reason) or is_compiled(patcher) else head


def _tap(patcher):
    head = _head_of(patcher)
    if head is not None:
        yield from forecast_head.HeadTap(head).attach(patcher.model.diffusion_model)


def begin_evaluation(executor, x, timestep, model_options, seed=None):
    """Wraps PREDICT_NOISE: decides about each evaluation, and notes what became of it."""
    options = model_options.get(OPTIONS, {})
    run = options.get(KEY)
    if run is None:
        return executor(x, timestep, model_options, seed)
    stats = stats_of(options)
    if stats is not None:
        stats.forecast = run.record
    run.begin(float(timestep.max()))
    out = executor(x, timestep, model_options, seed)
    run.end()
    return out


def answer_call(executor, *args, **kwargs):
    """Wraps APPLY_MODEL: forecasts a call of the model, or lets it run and remembers what it computed."""
    named = OPTIONS in kwargs
    options = kwargs[OPTIONS] if named else args[POSITION] if len(args) > POSITION else {}
    run = options.get(KEY)
    if run is None:
        return executor(*args, **kwargs)
    # A graph of torch.compile would look each key up in later runs, too.
    plain = {key: value for key, value in options.items() if key != KEY}
    if named:
        kwargs = {**kwargs, OPTIONS: plain}
    else:
        args = (*args[:POSITION], plain, *args[POSITION + 1 :])

    def execute() -> torch.Tensor:
        return executor(*args, **kwargs)

    if run.idle:
        return execute()
    call = ModelCall(run, executor.class_obj, args[0], args[1], options, kwargs.get("latent_shapes"))
    if run.forecasting and run.ready(call.keys):
        out = run.attempt(lambda: call.forecast(execute), "a forecast")
        return execute() if out is None else out
    return call.compute(execute)
