"""Which steps are forecast."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from attention.forecast import ForecastSettings
from attention.forecast.record import COMPUTED, FORECAST, PARTLY, Evaluation, ForecastRecord, spans
from attention.forecast.schedule import StepSchedule


def made(settings: ForecastSettings, steps: int, most=None, error=lambda distance: 0.0) -> list[int]:
    """The steps that are forecast, from 0. error: of a forecast, by its distance; measured once two were computed."""
    schedule, found, computed = StepSchedule([settings] * steps, most), [], 0
    for step in range(steps):
        if schedule.forecasts(step):
            schedule.note_forecast()
            found.append(step)
        else:
            schedule.note_computed(error(schedule.distance) if computed > 1 else None)
            computed += 1
    return found


def settings(**more) -> ForecastSettings:
    return replace(ForecastSettings(), **{"warm_up": 3, "last": 1, "in_a_row": 3, "max_error": 0.0, **more})


def test_by_the_schedule_alone():
    assert made(settings(), 20) == [3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17]
    assert made(settings(in_a_row=1), 10) == [3, 5, 7]
    assert made(settings(), 20, most=1) == [3, 5, 7, 9, 11, 13, 15, 17]
    assert made(settings(in_a_row=0), 20) == made(settings(warm_up=20), 20) == made(settings(last=20), 20) == []


@given(
    st.integers(1, 60), st.integers(1, 9), st.integers(0, 9), st.integers(0, 6), st.sampled_from([None, 1, 2]),
    st.sampled_from([0.0, 0.05]), st.randoms(),
)  # fmt: skip
def test_the_bounds_are_kept_whatever_the_error(steps, warm_up, last, in_a_row, most, bound, random):
    asked = settings(warm_up=warm_up, last=last, in_a_row=in_a_row, max_error=bound)
    found = made(asked, steps, most, lambda distance: random.choice([0.0, 0.04, 0.2, float("nan")]))
    assert all(warm_up <= step < steps - last for step in found)
    cap, rows = min(in_a_row, in_a_row if most is None else most), 0
    for step in range(steps):
        rows = rows + 1 if step in found else 0
        assert rows <= cap


def test_the_error_decides():
    kept = settings(max_error=0.05)
    assert made(kept, 20, error=lambda distance: 0.2) == []
    # None in a row at first, then one more each time.
    assert made(kept, 20, error=lambda distance: 0.01) == [3, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18]
    assert made(kept, 12, error=lambda distance: 0.03 * distance) == [3, 5, 7, 9]
    assert made(kept, 12, error=lambda distance: float("inf")) == []


def test_without_a_measured_error_nothing_is_forecast_under_a_bound():
    schedule = StepSchedule([settings(max_error=0.05)] * 20)
    for step in range(10):
        assert not schedule.forecasts(step)
        schedule.note_computed()


def record(kinds: str, errors=()) -> ForecastRecord:
    found = ForecastRecord("the model's output")
    names = {"c": COMPUTED, "f": FORECAST, "p": PARTLY}
    for step, kind in enumerate(kinds, 1):
        error = dict(errors).get(step)
        found.evaluations.append(Evaluation(names[kind], step, error, 2 if error is not None else 0))
        found.mark()
    return found


def test_a_record_counts_truly():
    found = record("cccffcfpc", [(3, 0.01), (6, 0.03)])
    found.size = 3 * 2**20
    assert found.counted() == "3 of 9 evaluations forecast"
    assert found.sentences() == (
        "Forecast: the model's output in steps 4-5, 7-8; 3 of 9 evaluations forecast, 1 more in part.",
        "Estimated error of a forecast, measured at 2 computed evaluations: relative L2 0.02 on average, 0.03 at most, "
        "up to 2 steps ahead.",
        "It remembered up to 3.0 MiB.",
    )
    assert [[one.kind for one in found.of_step(step)] for step in (3, 4, 99)] == [[COMPUTED], [FORECAST], []]
    assert found.step == 10


def test_a_record_says_why_nothing_was_forecast():
    refused = record("cc")
    refused.refused = "dpm_adaptive: it chooses its own steps"
    assert refused.sentences() == ("Nothing was forecast: dpm_adaptive: it chooses its own steps.",)
    assert "the error stayed above the bound" in record("cccc", [(3, 0.4)]).sentences()[0]
    assert "the schedule computes all" in record("cc").sentences()[0]
    assert ForecastRecord().sentences() == ()


def test_spans():
    assert spans([1, 2, 3, 5, 8, 9]) == "1-3, 5, 8-9"
