"""Calibrate with forecasts and kept outputs among its candidates: measured, chosen, saved, loaded, verified."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from calibrating import LATENT, start

STEPS = 10


@pytest.fixture
def bench(lab, monkeypatch, tmp_path):
    return start(lab, monkeypatch, tmp_path)


def calibrate(bench, **other):
    return bench.calibrate(**{"candidates": "everything", "steps": STEPS, "custom_budget": 10.0, **other})


def test_forecasts_are_measured_and_chosen(bench, lab):
    found = calibrate(bench)
    plan, exact = found["plan"], lab.sample(seed=1, steps=STEPS)
    assert [(one.start, one.end) for one in plan.forecasts] in ([(0.0, 0.5), (0.5, 1.0)], [(0.0, 1.0)]) and plan.steps
    # No budget to speak of: as many as there are in ten steps.
    assert {one.settings.in_a_row for one in plan.forecasts} <= {3, 6, 12}
    for one in plan.forecasts:
        assert 0 < one.error < 2 and 0 < one.seconds < one.exact_seconds
    assert plan.whole_seconds < sum(one.seconds for one in plan.forecasts) < plan.whole_exact_seconds
    first = plan.forecasts[0]
    planned = lab.sample(found["model"], seed=1, steps=STEPS)
    assert lab.error(planned, exact) == pytest.approx(plan.realised, rel=1e-3) and plan.realised > 0
    assert f"| steps, 0-{100 * first.end:.0f} % | {first.settings.label} | - | - | " in found["info"]
    # In its range alone: the first of the samplings that were made for it.
    host = lab.pack.nodes.host.forecast
    alone = lab.sample(host.install_spans(lab.model, (first.span(),)), seed=1, steps=STEPS)
    assert lab.error(alone, exact) == pytest.approx(first.error, rel=1e-3)


def test_even_forecasts_are_measured_beside_those_of_ranges(bench, lab, monkeypatch):
    """Over the whole sampling in place of range by range, with what runs in computed steps chosen on top."""
    settle, seen = lab.pack.nodes.runs.settling, []
    choices = settle.Choices
    monkeypatch.setattr(settle, "Choices", lambda *given: (seen.append(given), choices(*given))[1])
    found = calibrate(bench)
    even, host = seen[0][-2], lab.pack.nodes.host.forecast
    assert [option.name for option in even] == ["exact", *(one.label for one in bench.plans.SKIPS)]
    assert even[0].seconds == pytest.approx(found["plan"].whole_exact_seconds)
    exact = lab.sample(seed=1, steps=STEPS)
    for option, one in zip(even[1:], bench.plans.SKIPS):
        alone = lab.sample(host.install(lab.model, one), seed=1, steps=STEPS)
        assert lab.error(alone, exact) == pytest.approx(option.error, rel=1e-3)
    # Where they are the faster choice they are the plan's, and both are on the page.
    monkeypatch.setattr(settle, "Choices", lambda options, steps, *rest: choices(
        options, {at: options[:1] for at, options in steps.items()}, *rest))  # fmt: skip
    found = calibrate(bench)
    plan = found["plan"]
    assert [(one.start, one.end) for one in plan.forecasts] == [(0.0, 1.0)] and plan.steps
    assert "| steps, 0-100 % | forecast taylor" in found["info"] and "| steps, 0-50 %" not in found["info"]
    planned = lab.sample(found["model"], seed=1, steps=STEPS)
    assert lab.error(planned, exact) == pytest.approx(plan.realised, rel=1e-3)
    monkeypatch.setattr(settle, "Choices", choices)
    once = calibrate(bench, step_ranges=1)["plan"]
    assert [(one.start, one.end) for one in once.forecasts] == [(0.0, 1.0)]


def test_where_it_forecasts(bench, lab):
    """What a range says holds in its steps alone."""
    host, calls = lab.pack.nodes.host.forecast, []
    block = lab.model.model.diffusion_model.transformer_blocks[0]
    settings = replace(bench.plans.SKIPS[0], in_a_row=2, warm_up=2, last=1)
    more = replace(settings, in_a_row=1, degree=2, warm_up=1)
    sigmas = lambda *_: calls.append(None)  # noqa: E731

    def computed(*spans) -> int:
        calls.clear()
        hook = block.register_forward_pre_hook(sigmas)
        lab.sample(host.install_spans(lab.model, spans), seed=1, steps=STEPS)
        hook.remove()
        return len(calls)

    early, late = host.ForecastSpan(settings, 0.0, 0.5), host.ForecastSpan(more, 0.5, 1.0)
    each = [STEPS - computed(early), STEPS - computed(late)]
    assert each[0] > 1 and each[1] > 0 and STEPS - computed(early, late) == sum(each)
    # Outside of all of them everything is computed, bit for bit, until the first forecast.
    assert computed(host.ForecastSpan(settings, 0.0, 1e-6)) == STEPS


@pytest.mark.parametrize("budget", [1e-4, 0.02, 0.3])
def test_the_budget_is_kept_with_forecasts(bench, lab, budget):
    found = calibrate(bench, custom_budget=budget)
    plan = found["plan"]
    error = lab.error(lab.sample(found["model"], seed=1, steps=STEPS), lab.sample(seed=1, steps=STEPS))
    assert error <= budget and plan.error <= budget
    assert bool(plan.forecasts or plan.steps) == (plan.whole_seconds < plan.whole_exact_seconds)


@pytest.mark.parametrize("ranges", [2, 3])
@pytest.mark.parametrize("budget", [1.0, 10.0])
def test_the_predicted_time_is_that_of_what_is_computed(bench, lab, monkeypatch, budget, ranges):
    """Forecasts of one range change what those of the next one leave to compute."""
    bench.offer()
    settle = lab.pack.nodes.runs.settling
    choices = settle.Choices
    # Range by range, whatever forecasts over all of them would save.
    monkeypatch.setattr(settle, "Choices", lambda options, steps, even, together: choices(options, steps, (), together))
    plan = calibrate(bench, candidates="forecast steps", custom_budget=budget, step_ranges=ranges)["plan"]
    host, calls = lab.pack.nodes.host.forecast, []
    block = lab.model.model.diffusion_model.transformer_blocks[0]
    hook = block.register_forward_pre_hook(lambda *_: calls.append(None))
    lab.sample(host.install_spans(lab.model, plan.spans()), seed=1, steps=STEPS)
    hook.remove()
    assert len(calls) < STEPS
    left = len(calls) + 0.1 * (STEPS - len(calls))
    assert plan.whole_seconds == pytest.approx(plan.whole_exact_seconds * left / STEPS, rel=1e-6)


def test_forecasts_alone(bench):
    bench.offer()
    plan = calibrate(bench, candidates="forecast steps")["plan"]
    assert plan.forecasts and not plan.steps


def test_what_there_is_to_try(lab):
    plans = lab.pack.nodes.runs.plans
    counts = {kind: (len(plans.candidates(kind)), len(plans.forecasts(kind))) for kind in plans.KINDS}
    kernels, skips = counts["kernels"][0], len(plans.SKIPS)
    choosing = [one for one in plans.SHAPES if hasattr(one, "refresh")]
    patterns = len(plans.SHAPES) + 2 * len(choosing)
    assert len(choosing) == 4 and sum(one.keeps_choices for one in plans.candidates("patterns")) == 2 * len(choosing)
    assert counts == {
        "kernels": (kernels, 0), "patterns": (patterns, 0), "kernels and patterns": (kernels + patterns, 0),
        "forecast steps": (0, skips), "everything": (kernels + patterns + len(plans.KEPT), skips),
    }  # fmt: skip
    assert len({one.label for one in plans.SKIPS}) == skips


def keep(bench, every: int):
    return bench.candidate(reuse=bench.lab.pack.attention.reuse.ReuseSettings(every=every))


def test_kept_outputs_are_chosen_where_they_are_worth_it(bench, lab):
    bench.offer(keep(bench, 2), keep(bench, 3), bench.patterns.Spatial())
    # What a pattern saves is made up: next to nothing.
    bench.set(bench.probe, "time_in_turns", lambda runs, device: {name: 1.0 - 0.03 * (name != "host") for name in runs})
    found = bench.calibrate(custom_budget=10.0, steps=6, step_ranges=1)
    plan, exact = found["plan"], lab.sample(seed=1, steps=6)
    assert {step.candidate.name for step in plan.steps} == {"reuse every 3 steps"} and len(plan.steps) > 2
    for step in plan.steps:
        assert step.seconds == pytest.approx(step.exact_seconds / 3) and step.local is None and step.error > 0
    planned = lab.sample(found["model"], seed=1, steps=6)
    assert lab.error(planned, exact) == pytest.approx(plan.realised, rel=1e-3)
    assert any(used == "kept output" for _, used in lab.counted(found["model"], seed=1, steps=6))
    bench.plan.VideoAttentionSavePlan.execute(plan, "kept")
    model, again, _ = bench.plan.VideoAttentionLoadPlan.execute(lab.model, "kept.json").args
    assert again == plan and torch.equal(lab.sample(model, seed=1, steps=6), planned)
    tight = bench.calibrate(custom_budget=1e-7, steps=6, step_ranges=1)["plan"]
    assert not tight.steps


def test_a_range_of_one_step_keeps_nothing(bench):
    bench.offer(keep(bench, 2))
    assert not bench.calibrate(custom_budget=10.0, steps=4, step_ranges=4)["plan"].steps


def test_a_sampler_that_stands_no_forecast_is_said(bench):
    found = calibrate(bench, sampler_name="dpm_fast")
    assert not found["plan"].forecasts
    assert "forecast taylor 1, 6 in a row in steps, 0-50 %" in found["info"] and "steps are of several" in found["info"]


def test_more_prompts_are_sampled_in_turns(bench, lab):
    (tokens, options), *_ = lab.prompt[0]
    other = [[torch.randn_like(tokens), options] for _ in range(2)]
    calibrate(bench, seeds=4, more_prompts=other, candidates="patterns", steps=4)
    seen = {job.seed: job.positive[0][0] for job in bench.samplings}
    assert sorted(seen) == [1, 2, 3, 4]
    for seed, asked in zip(sorted(seen), [lab.prompt[0][0], other[0], other[1], lab.prompt[0][0]]):
        assert torch.equal(seen[seed], asked[0])
    first = len(bench.samplings)
    calibrate(bench, seeds=4, more_prompts=other[:1], candidates="patterns", steps=4)
    assert len(bench.samplings) > first, "other prompts are measured anew"


def test_a_model_with_forecasts_is_refused(bench, lab):
    with pytest.raises(ValueError, match="put Video Attention Clear in"):
        bench.calibrate(lab.pack.nodes.host.forecast.install(lab.model, bench.plans.SKIPS[0]))


def test_a_plan_with_forecasts_goes_through_a_file(bench, lab):
    found = calibrate(bench)
    nodes = bench.plan
    nodes.VideoAttentionSavePlan.execute(found["plan"], "with forecasts")
    model, plan, said = nodes.VideoAttentionLoadPlan.execute(lab.model, "with forecasts.json").args
    ranges = ", ".join(f"{100 * one.start:.0f} % to {100 * one.end:.0f} %" for one in plan.forecasts)
    assert plan == found["plan"] and f"Steps are forecast from {ranges} of the sampling." in said
    again = lab.sample(model, seed=1, steps=STEPS)
    assert torch.equal(again, lab.sample(found["model"], seed=1, steps=STEPS))
    assert lab.pack.nodes.host.forecast.budget_of(model) == plan.budget
    cleared = lab.clear(model)
    assert not lab.pack.nodes.host.forecast.spans_of(cleared)
    assert torch.equal(lab.sample(cleared, seed=1, steps=STEPS), lab.sample(seed=1, steps=STEPS))


def test_a_plan_with_forecasts_behind_a_step_cache(bench, lab):
    from comfy_extras.nodes_easycache import EasyCacheNode

    bench.plan.VideoAttentionSavePlan.execute(calibrate(bench)["plan"], "cached")
    cached = EasyCacheNode.execute(lab.model, 0.2, 0.15, 0.95, False).args[0]
    model, _, said = bench.plan.VideoAttentionLoadPlan.execute(cached, "cached.json").args
    assert "No step is forecast: EasyCache or LazyCache is on it" in said
    assert lab.pack.nodes.host.model_rules.rules_of(model) and not lab.pack.nodes.host.forecast.spans_of(model)


def test_verify_knows_the_budget_of_forecasts_alone(bench, lab):
    bench.offer()
    model = calibrate(bench, candidates="forecast steps")["model"]
    assert not lab.pack.nodes.host.model_rules.rules_of(model)
    node, (positive, negative) = lab.pack.nodes.verify.VideoAttentionVerify, lab.prompt
    report = node.execute(
        model, positive, negative, {"samples": LATENT}, 1, STEPS, 1.0, "euler", "simple"
    ).args[-1]  # fmt: skip
    assert "The plan's budget of 10 was kept." in report.splitlines()[0] and "No rule of this pack" not in report
    assert "whole sampling " in report and "x as fast" in report
