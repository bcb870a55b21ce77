"""The thumbnails of workflows that nothing here can render: the steps in them are those of the presets."""

import planned_pictures
import pytest
import result_pictures
import templates

from attention import presets

PLANNED = [name for name in templates.WORKFLOWS if name not in result_pictures.PICTURES]


def prompt(**inputs):
    return {"1": {"class_type": "VideoAttentionSampler", "inputs": {"steps": 20, "sampler_name": "euler", **inputs}}}


@pytest.mark.parametrize("name", PLANNED)
def test_every_name_is_a_model_s_that_presets_know(name):
    title, below = planned_pictures.words_of(name)
    assert title and below and f"{title} {below}" == name
    assert presets.find(planned_pictures.preset_of(name), presets.BALANCED).models


@pytest.mark.parametrize("level", presets.LEVELS)
@pytest.mark.parametrize("name", PLANNED)
def test_a_step_is_forecast_where_the_preset_may(name, level):
    preset = presets.find(planned_pictures.preset_of(name), level)
    steps = list(planned_pictures.steps_of([[i / 20 for i in range(20)]], preset, prompt()))
    forecast = [number for number, (*_, may) in enumerate(steps) if may]
    assert len(steps) == 20 and bool(forecast) == (preset.forecast is not None)
    if forecast:
        assert forecast[0] >= preset.forecast.warm_up and forecast[-1] < 20 - preset.forecast.last
    lefts = [(x, x + wide) for x, wide, *_ in steps]
    assert all(a[1] <= b[0] for a, b in zip(lefts, lefts[1:])), "no box over another"
    assert lefts[-1][1] <= planned_pictures.SIDE - planned_pictures.EDGE


def test_experts_and_stages_are_told_apart():
    experts = prompt(boundary=0.875) | {"2": {"class_type": "ModelSamplingSD3", "inputs": {"shift": 5.0}}}
    experts["1"]["class_type"] = "VideoAttentionTwoStageSampler"
    high, low = planned_pictures.stages_of(experts)
    # sigma = 5 t / (1 + 4 t) is 0.875 at t = 7/12: steps 0 to 8 of 20 begin at or above it.
    assert len(high) == 9 and len(low) == 11 and high + low == [i / 20 for i in range(20)]
    sigmas = {
        str(i): {"class_type": "ManualSigmas", "inputs": {"sigmas": s}} for i, s in enumerate(("1, 0.5, 0", "0.8, 0"))
    }
    assert [len(stage) for stage in planned_pictures.stages_of(sigmas)] == [2, 1]
    assert planned_pictures.stages_of(sigmas)[0][0] == pytest.approx(0)


def test_windows_cover_the_clip():
    long = prompt(method="extend") | {"2": {"class_type": "Latent", "inputs": {"length": 361}}}
    long["1"]["class_type"] = "VideoAttentionLongSampler"
    spans, frames, seconds = planned_pictures.windows_of("Wan 2.2 5B", long)
    assert (frames, round(seconds)) == (91, 15) and spans[0] == (0, 31) and spans[-1][1] == frames
    assert all(b[0] <= a[1] - 8 for a, b in zip(spans, spans[1:])), "a quarter of 31 is shared"
    assert planned_pictures.windows_of("Wan 2.2 5B", prompt()) is None
