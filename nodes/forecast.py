"""Forecast whole evaluations of a model."""

from comfy_api.latest import io, ui

from ..attention.forecast import CHEBYSHEV, TAYLOR, ForecastSettings
from .host import forecast, forecast_memory
from .widgets import guidance_inputs, rule_inputs
from .widgets.idle import idle, one_of, switched_off
from .widgets.node import NOTE, Node

CATEGORY = "video attention/backend"
DEFAULT = ForecastSettings()


def _count(name: str, default: int, low: int, high: int, tooltip: str, **more) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=low, max=high, tooltip=tooltip, **more)


def _inputs() -> list:
    """Makes the widgets: those that users turn first."""
    return [
        rule_inputs.model(),
        guidance_inputs.enabled(),
        io.Combo.Input(
            "method",
            options=[TAYLOR, CHEBYSHEV],
            default=DEFAULT.method,
            tooltip="taylor: finite differences of the last computed steps (TaylorSeer, arXiv 2503.06923). "
            "chebyshev: a polynomial fitted to more of them (Spectrum, arXiv 2603.01623).",
        ),
        guidance_inputs.number(
            "max_error", DEFAULT.max_error, 0.0, 1.0,
            "The most that a forecast may be off at computed steps, relative. Above it fewer steps in a row "
            "are forecast, down to none. 0: by the numbers below alone.", step=0.005,
        ),
        _count("in_a_row", DEFAULT.in_a_row, 0, 16, "The most steps forecast one after the other. 0 is off."),
        _count("first_steps", DEFAULT.warm_up, 1, 100, "So many steps at the beginning are computed."),
        _count("last_steps", DEFAULT.last, 0, 100, "So many steps at the end are computed."),
        _count("degree", DEFAULT.degree, 0, 6, "Of the polynomial: 0 repeats, 1 is a line.", advanced=True),
        _count("history", DEFAULT.history, 1, 16, "How many computed steps chebyshev fits.", advanced=True),
        guidance_inputs.number(
            "ridge", DEFAULT.ridge, 0.0, 10.0, "Smooths chebyshev's fit; 0 fits exactly.", step=0.01,
            advanced=True,
        ),
        io.Boolean.Input(
            "offload",
            default=DEFAULT.offload,
            advanced=True,
            tooltip="Keeps computed steps in the computer's memory instead of the GPU's: slower, smaller.",
        ),
    ]  # fmt: skip


class VideoAttentionForecast(Node):
    """Forecasts steps of a MODEL from computed ones, in place of computing them."""

    TEXT = NOTE
    COUNTS_ATTENTION = True
    IDLE = (
        *switched_off(
            "method", "max_error", "in_a_row", "first_steps", "last_steps", "degree", "history", "ridge", "offload"
        ),
        idle("ridge", when=(one_of("method", TAYLOR),)),
    )

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="VideoAttentionForecast",
            display_name="Video Attention Forecast (Skip Steps)",
            category=CATEGORY,
            description=(
                "Two to three times as fast with 20 or more steps: forecasts whole steps from those that were "
                "computed, so that the model need not run in them. Measures its error at every computed step and "
                "computes more where that is above max_error. Not together with EasyCache or LazyCache."
            ),
            search_aliases=[
                "spectrum", "taylorseer", "teacache", "easycache", "step cache", "skip steps", "speed up", "accelerate",
            ],
            inputs=_inputs(),
            outputs=[
                io.Model.Output(tooltip="The model with forecast steps. LoRA goes before it, torch.compile behind it.")
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, enabled, first_steps, last_steps, **options) -> io.NodeOutput:
        settings = ForecastSettings(warm_up=first_steps, last=last_steps, **options)
        if not enabled or not settings.in_a_row:
            return io.NodeOutput(model, ui=ui.PreviewText("Forecast is off: the model is as it came."))
        text = forecast_memory.text(model, settings)
        return io.NodeOutput(forecast.install(model, settings), ui=ui.PreviewText(text))


NODES = (VideoAttentionForecast,)
