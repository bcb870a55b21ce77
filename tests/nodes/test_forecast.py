"""Forecasts in a real ComfyUI: other skippers, errors, windows, experts, the node."""

from __future__ import annotations

import pytest
import torch
from forecasting import equal, far, forecast, made_steps, records, sampled
from tiny import plain
from tiny.case import prompt
from widget_defaults import defaults

CASE = plain()["Wan"]


@pytest.fixture(scope="module")
def model(pack):
    return CASE.build()


def node(pack, model, **widgets):
    kind = pack.nodes.forecast.VideoAttentionForecast
    out = kind.execute(model, **{**defaults(kind), **widgets})
    return out.args[0], out.ui.as_dict()["text"][0]


# --- the node --------------------------------------------------------------------------------------------------------


def test_off_is_the_model_itself(pack, model):
    assert node(pack, model, enabled=False)[0] is model and node(pack, model, in_a_row=0)[0] is model


def test_the_node_asks_for_the_defaults_of_the_settings(pack, model):
    patched, text = node(pack, model)
    settings = pack.nodes.host.forecast.settings_of(patched)
    assert settings == pack.nodes.host.forecast.ForecastSettings() and settings.max_error > 0
    assert pack.nodes.host.forecast.settings_of(model) is None
    width = model.model.diffusion_model.dim
    assert "what goes into the model's last layer by taylor, up to 3 steps in a row" in text
    assert f"Remembers 2 computed steps: {1000 * width * 2 * 4 / 2**20:.1f} MiB for 1000 tokens" in text


def test_a_second_node_replaces_the_first(pack, model, inference):
    twice = forecast(pack, forecast(pack, model, in_a_row=3), in_a_row=1)
    assert made_steps(sampled(pack, twice, CASE)[1]) == [3, 5, 7]


def test_info_says_what_a_clip_takes(pack, model):
    patched = forecast(pack, model)
    text = pack.nodes.info.VideoAttentionInfo.execute(patched, {"samples": CASE.latent()}).args[0]
    assert "Remembers 2 computed steps" in text and "tokens of video" in text
    assert "Remembers" not in pack.nodes.info.VideoAttentionInfo.execute(model, {"samples": CASE.latent()}).args[0]


def test_clear_takes_it_off(pack, model, inference):
    cleared = pack.nodes.host.model_rules.clear(forecast(pack, model))
    out, report = sampled(pack, cleared, CASE)
    assert report is None and equal(out, sampled(pack, model, CASE)[0])
    assert cleared.model_options.get("transformer_options", {}) == {}


# --- others that skip ------------------------------------------------------------------------------------------------


def easy(model):
    from comfy_extras.nodes_easycache import EasyCacheNode

    return EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0]


def test_easycache_before_it_is_refused(pack, model):
    with pytest.raises(ValueError, match="^model: EasyCache or LazyCache is on it.*Bypass"):
        forecast(pack, easy(model))


def test_behind_easycache_all_is_left_to_it(pack, model, inference):
    out, report = sampled(pack, easy(forecast(pack, model)), CASE)
    assert not report.forecasts and any(note.startswith("Nothing was forecast: EasyCache") for note in report.notes)
    assert equal(out, sampled(pack, easy(model), CASE)[0])


def test_a_mask_that_changes_is_left_alone(pack, model, inference):
    changing = forecast(pack, model)
    changing.set_model_denoise_mask_function(lambda sigma, mask, **_: (mask * sigma >= 0.5).to(mask.dtype))
    _, report = sampled(pack, changing, CASE)
    assert not report.forecasts and any("Differential Diffusion" in note for note in report.notes)


@pytest.mark.parametrize("kind", ["stg", "pag"])
def test_an_extra_pass_is_forecast_from_itself(kind, pack, model, inference):
    from guiding import guided

    weak = guided(pack, kind, model, scale=2.0)
    exact, _ = sampled(pack, weak, CASE, cfg=3.0)
    calls = []
    handle = model.model.diffusion_model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        for patched in (forecast(pack, weak), guided(pack, kind, forecast(pack, model), scale=2.0)):
            calls.clear()
            near, report = sampled(pack, patched, CASE, cfg=3.0)
            # One call for both prompts, one for the pass.
            assert made_steps(report) == [3, 5, 7] and len(calls) == 2 * 5
            assert far(near, exact) < 0.05 and not equal(near, exact)
    finally:
        handle.remove()


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_interrupt_leaves_nothing(pack, model, inference):
    import comfy.model_management as host

    patched, net = forecast(pack, model, in_a_row=2), model.model.diffusion_model
    blocks = list(net.blocks)
    good, _ = sampled(pack, patched, CASE)

    def stop(step, *args):
        if step == 3:
            raise host.InterruptProcessingException()

    with pytest.raises(host.InterruptProcessingException):
        sampled(pack, patched, CASE, callback=stop)
    # In a step that is forecast, too, while its blocks are taken away.
    handle = net.head.norm.register_forward_pre_hook(_raise_at(5, host.InterruptProcessingException()))
    with pytest.raises(host.InterruptProcessingException):
        sampled(pack, patched, CASE)
    handle.remove()
    assert list(net.blocks) == blocks and not [name for name in vars(net) if name.startswith("_video_attention")]
    assert equal(sampled(pack, patched, CASE)[0], good)


def _raise_at(number: int, error: Exception):
    calls = []

    def hook(*args):
        calls.append(1)
        if len(calls) == number:
            raise error

    return hook


@pytest.mark.parametrize("number, what", [(4, "a guess"), (5, "a forecast")])
def test_what_fails_is_computed(number, what, pack, model, inference):
    exact, _ = sampled(pack, model, CASE)
    # The fourth run of the head is that of the third step's guess, the fifth that of the fourth step's forecast.
    handle = model.model.diffusion_model.head.norm.register_forward_pre_hook(_raise_at(number, RuntimeError("broken")))
    out, report = sampled(pack, forecast(pack, model, warm_up=3), CASE)
    handle.remove()
    assert equal(out, exact) and not report.forecasts
    assert any(f"{what} failed" in note and "broken" in note for note in report.notes)
    assert len(model.model.diffusion_model.blocks) and report.evaluations == 8


@pytest.mark.parametrize("step", [1, 2, 4])
def test_nan_ends_it(step, pack, model, inference):
    evaluations = []

    def spoil(module, args, output):
        evaluations.append(1)
        return output * torch.nan if len(evaluations) == step else output

    handle = model.model.diffusion_model.blocks[-1].register_forward_hook(spoil)
    _, report = sampled(pack, forecast(pack, model, warm_up=3), CASE)
    handle.remove()
    assert any("the model gave NaN or Inf" in note for note in report.notes)


# --- windows, batches, experts ---------------------------------------------------------------------------------------


def windows(model, frames=3, overlap=1, schedule="static"):
    import comfy.context_windows as host

    windowed = model.clone()
    windowed.model_options["context_handler"] = host.IndexListContextHandler(
        context_schedule=host.get_matching_context_schedule(
            getattr(host.ContextSchedules, {"static": "STATIC_STANDARD", "moving": "UNIFORM_STANDARD"}[schedule])
        ),
        fuse_method=host.get_matching_fuse_method(host.ContextFuseMethods.PYRAMID),
        context_length=frames, context_overlap=overlap, dim=2,
    )  # fmt: skip
    return windowed


class Longer:
    """A case with more frames."""

    options: dict = {}

    def __init__(self, case, frames: int):
        self.text, self.conditioning, self._case, self._frames = case.text, case.conditioning, case, frames

    def latent(self):
        return self._case.latent().repeat_interleave(self._frames, dim=2)[:, :, : self._frames]


def test_each_context_window_is_forecast_from_itself(pack, model, inference):
    case, windowed = Longer(CASE, 7), windows(model)
    exact, _ = sampled(pack, windowed, case)
    near, report = sampled(pack, forecast(pack, windowed), case)
    assert made_steps(report) == [3, 5, 7] and report.windows > 1
    assert not equal(near, exact) and far(near, exact) < 0.05


def test_windows_that_move_are_computed_where_they_are_new(pack, model, inference):
    case, windowed = Longer(CASE, 9), windows(model, 4, 2, "moving")
    exact, _ = sampled(pack, windowed, case)
    near, _ = sampled(pack, forecast(pack, windowed), case)
    assert far(near, exact) < 0.05


def test_two_experts_have_a_history_each(pack, model, inference):
    from studio import Studio

    studio = Studio(pack, CASE)
    high, low = forecast(pack, studio.model), forecast(pack, studio.model.clone())
    with records(pack) as found:
        studio.two(high=high, low=low, steps=12, switch_step=6)
    first, second = found
    assert made_steps(first) == [3, 5] and made_steps(second) == [3, 5]
    both = found.report
    assert (both.forecasts, both.evaluations, both.steps) == (4, 12, 12)


@pytest.mark.parametrize("node", ["sample", "two"])
def test_our_samplers(node, pack, inference):
    from studio import Studio

    studio = Studio(pack, CASE)
    with records(pack) as found:
        getattr(studio, node)(**{"model" if node == "sample" else "high": forecast(pack, studio.model), "steps": 8})
    assert found.report.forecasts


def test_a_batch_of_clips(pack, model, inference):
    class Two(Longer):
        def latent(self):
            return super().latent().repeat(2, 1, 1, 1, 1)

    case = Two(CASE, 3)
    exact, _ = sampled(pack, model, case, cfg=2.0)
    near, report = sampled(pack, forecast(pack, model), case, cfg=2.0)
    assert made_steps(report) == [3, 5, 7] and far(near, exact) < 0.05


def test_several_prompts_of_one_side(pack, model, inference):
    """Two positive prompts, the second in a part of the sampling alone: it comes and goes."""
    import comfy.sample
    import comfy.samplers

    positive = [*prompt(CASE, 1), [prompt(CASE, 3)[0][0], {"start_percent": 0.0, "end_percent": 0.6}]]

    def run(patched):
        latent, sampler = CASE.latent(), comfy.samplers.sampler_object("euler")
        noise = comfy.sample.prepare_noise(latent, 1)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 10)
        with records(pack) as found:
            out = comfy.sample.sample_custom(
                patched, noise, 1.0, sampler, sigmas, positive, prompt(CASE, 2), latent, disable_pbar=True, seed=1
            )
        return out, found.report

    exact, _ = run(model)
    near, report = run(forecast(pack, model))
    assert report.forecasts and far(near, exact) < 0.05
