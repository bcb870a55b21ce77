"""Schedule beside what really runs: forecast steps and kept outputs are foreseen, or said to be open."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from widget_defaults import defaults

COMPUTED, FORECAST, ADAPTIVE = "computed", "forecast", "adaptive"
STEPS = 12


@pytest.fixture
def host(lab):
    return lab.pack.nodes.host


def forecasts(lab, **how):
    return lab.pack.attention.forecast.ForecastSettings(**{"max_error": 0.0, "warm_up": 2, **how})


def keeping(lab, every, start=0.0, end=1.0, blocks=()):
    rules = lab.pack.attention.routing.rules
    kept = lab.pack.attention.reuse.ReuseSettings(every=every)
    return rules.Rule(role="self", blocks=blocks, start=start, end=end, reuse=kept)


def table_of(lab, model, sampler="euler", steps=STEPS):
    """The table as the node makes it, and its text."""
    import comfy.samplers

    nodes = lab.pack.nodes
    node = nodes.schedule.VideoAttentionSchedule
    given = {**defaults(node), "steps": steps, "sampler_name": sampler, "scheduler_name": "simple"}
    out = node.execute(model, **given)
    foreseen, _ = nodes.host.foresight.of(model, comfy.samplers.sampler_object(sampler), out.args[1])
    return nodes.schedule._table(model, out.args[1], foreseen), out.args[2]


def ran(lab, model, sampler="euler", steps=STEPS):
    """The timeline of a real run."""
    import comfy.sample
    import torch

    latent = torch.zeros(1, 128, 2, 3, 4)
    positive, empty = lab.prompt
    noise = comfy.sample.prepare_noise(latent, 1)
    out = comfy.sample.sample(model, noise, steps, 1.0, sampler, "simple", positive, empty, latent, seed=1)
    return lab.report(out).timeline


def kinds(table) -> list[str]:
    return [next(kind for kind in (COMPUTED, ADAPTIVE, FORECAST) if label.startswith(kind)) for label in table.steps]


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral", "res_multistep"])
@pytest.mark.parametrize("how", [{"in_a_row": 1}, {"in_a_row": 3}, {"in_a_row": 6, "degree": 2, "warm_up": 1},
                                 {"in_a_row": 2, "warm_up": 5, "last": 3, "method": "chebyshev"}])  # fmt: skip
def test_forecast_steps_are_those_that_are_forecast(lab, host, sampler, how):
    model = host.forecast.install(lab.model, forecasts(lab, **how))
    table, text = table_of(lab, model, sampler)
    timeline = ran(lab, model, sampler)
    assert [FORECAST if step.forecast else COMPUTED for step in timeline] == kinds(table)
    count = sum(step.forecast > 0 for step in timeline)
    assert count > 0 and f"{STEPS - count} of {STEPS} steps are computed. {count} are forecast." in text
    # Nothing attends in those.
    for blocks in table.roles.values():
        for column in blocks.values():
            assert [label.startswith("forecast") for label in column] == [step.forecast > 0 for step in timeline]


def test_forecasts_in_parts_of_the_sampling(lab, host):
    """As a plan has them."""
    span = lab.pack.attention.forecast.ForecastSpan
    spans = (span(forecasts(lab, in_a_row=1), 0.0, 0.5), span(forecasts(lab, in_a_row=6), 0.5, 1.0))
    for some in (spans, spans[1:], spans[:1]):
        model = host.forecast.install_spans(lab.model, some)
        table, text = table_of(lab, model)
        assert [FORECAST if step.forecast else COMPUTED for step in ran(lab, model)] == kinds(table)
        assert len({label for label in table.steps if label != COMPUTED}) == len(some)


def test_what_errors_decide_is_adaptive(lab, host):
    for bound in (1e-9, 10.0):
        model = host.forecast.install(lab.model, forecasts(lab, max_error=bound, warm_up=3, in_a_row=3))
        table, text = table_of(lab, model)
        foreseen = kinds(table)
        assert foreseen == [COMPUTED] * 3 + [ADAPTIVE] * (STEPS - 4) + [COMPUTED]
        done = [step.forecast > 0 for step in ran(lab, model)]
        assert not any(made for made, kind in zip(done, foreseen) if kind == COMPUTED)
        assert any(done) == (bound > 1e-9)
        assert f"4 of {STEPS} steps are computed. {STEPS - 4} are computed or forecast, by the error" in text


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 4), st.integers(0, 4), st.sampled_from([0.0, 0.05]),
                       st.integers(0, 2)), min_size=1, max_size=3),
    st.integers(1, 24), st.sampled_from([None, 1]), st.randoms(use_true_random=False),
)  # fmt: skip
@example([(1, 0, 0, 0.05, 1), (1, 0, 1, 0.05, 2), (1, 0, 0, 0.0, 0)], 7, None, Random(1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_errors(lab, kinds_of, steps, most, random):
    """Computed steps are computed and forecast ones forecast, whatever is measured."""
    schedule = lab.pack.attention.forecast.schedule
    each = [
        forecasts(lab, warm_up=warm, last=last, in_a_row=row, max_error=bound, degree=degree)
        for warm, last, row, bound, degree in kinds_of
    ]
    of_step = [each[step * len(each) // steps] for step in range(steps)]
    foreseen, run, computed = schedule.foresee(of_step, most), schedule.StepSchedule(of_step, most), 0
    for step, one in enumerate(of_step):
        planned, ready = run.forecasts(step), computed >= min(one.degree + 1, one.history)
        made = planned and ready
        assert foreseen[step] == ADAPTIVE or made == (foreseen[step] == FORECAST)
        computed += not made
        error = random.choice([0.0, 0.04, 0.2, float("nan")]) if ready and not planned else None
        run.note_forecast() if planned else run.note_computed(error)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral"])
@pytest.mark.parametrize("every, start, end", [(2, 0.0, 1.0), (3, 0.0, 1.0), (3, 0.3, 0.8), (5, 0.5, 1.0)])
def test_kept_outputs_are_those_that_are_given(lab, host, sampler, every, start, end):
    model = host.model_rules.add_rules(lab.model, [keeping(lab, every, start, end)])
    table, text = table_of(lab, model, sampler)
    given = [step.calls.get(("self", "kept output"), 0) > 0 for step in ran(lab, model, sampler)]
    for column in table.roles["self"].values():
        assert [label == "kept output" for label in column] == given and any(given)
    assert not any("kept" in label for column in table.roles["cross"].values() for label in column)
    assert ": kept output" in text and not table.steps


def test_kept_outputs_of_a_sampler_that_evaluates_twice(lab, host):
    """Its steps stand no more than one in a row; a report counts both evaluations with their step."""
    model = host.model_rules.add_rules(lab.model, [keeping(lab, 5)])
    for column in table_of(lab, model, "heun")[0].roles["self"].values():
        assert [label == "kept output" for label in column] == [step % 2 == 1 for step in range(STEPS)]
    # Two blocks of the model; two evaluations in a step, one in the last.
    each = [2 * (2 if step < STEPS - 1 else 1) for step in range(STEPS)]
    given = [step.calls.get(("self", "kept output"), 0) for step in ran(lab, model, "heun")]
    assert given == [calls * (step % 2) for step, calls in enumerate(each)]


def test_kept_outputs_between_forecast_steps(lab, host):
    """A step that is forecast makes an output older."""
    rules = [keeping(lab, 3, blocks=((0, 0),))]
    model = host.forecast.install(host.model_rules.add_rules(lab.model, rules), forecasts(lab, in_a_row=1, warm_up=3))
    table, _ = table_of(lab, model)
    timeline = ran(lab, model)
    kept = [label == "kept output" for label in table.roles["self"][0]]
    assert [step.calls.get(("self", "kept output"), 0) > 0 for step in timeline] == kept and any(kept)
    assert "kept output" not in table.roles["self"][1]
    adaptive = host.forecast.install(
        host.model_rules.add_rules(lab.model, rules), forecasts(lab, max_error=0.05, warm_up=3)
    )
    column = table_of(lab, adaptive)[0].roles["self"][0]
    assert column[:3] == ("host default + reuse every 3 steps", "kept output", "kept output")
    assert set(column[3:]) == {"host default + reuse every 3 steps"}, "which are how old is open"


def test_why_nothing_is_forecast_or_kept(lab, host):
    model = host.forecast.install(host.model_rules.add_rules(lab.model, [keeping(lab, 2)]), forecasts(lab))
    table, text = table_of(lab, model, "dpm_fast")
    assert not table.steps and "kept output" not in text
    assert "Nothing is forecast: dpm_fast: " in text and "Nothing is kept: dpm_fast: " in text
    assert not any(step.forecast for step in ran(lab, model, "dpm_fast"))


def test_without_either_it_is_as_it_was(lab, host):
    table, text = table_of(lab, lab.model)
    assert table.steps == () and "steps 1 to 12" in text and "computed" not in text


def test_a_plan_that_holds_both(lab, host):
    pack = lab.pack
    plan, runs = pack.attention.plans.plan, pack.nodes.runs
    rule = plan.PlanRule(plan.Candidate(reuse=pack.attention.reuse.ReuseSettings(every=2)), "self", (0, 1), 0.0, 1.0,
                         0.1, None, None, 1.0, 2.0)  # fmt: skip
    made = plan.PlanForecast(forecasts(lab, in_a_row=2), 0.5, 1.0, 0.1, 1.0, 2.0)
    model, _ = runs.plan_rules.install_plan(
        lab.model, plan.Plan("LTXVModel", "", 2, 2, 24, "cpu", 24, steps=(rule,), forecasts=(made,))
    )
    table, text = table_of(lab, model)
    timeline = ran(lab, model)
    assert [FORECAST if step.forecast else COMPUTED for step in timeline] == kinds(table)
    kept = [step.calls.get(("self", "kept output"), 0) > 0 for step in timeline]
    assert [label == "kept output" for label in table.roles["self"][0]] == kept and any(kept)
    assert "forecast taylor 1, 2 in a row" in text and ": kept output" in text
